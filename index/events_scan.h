/* The searches of the log in pieces, each under a read of its own: for who follows the log for
 * as long as the daemon runs. */
#ifndef SEM_INDEX_EVENTS_SCAN_H
#define SEM_INDEX_EVENTS_SCAN_H

#include "index/events.h"

/* Where a scan stands: the number of the event to look at next. */
typedef struct events_scan {
    uint64_t at;   /* forward: that or the next one; backward: that or the one before */
    bool backward; /* towards older events */
    bool ended;    /* no event was left; a forward scan may find new ones later */
} events_scan;

/* Hands text searches with their clicks to each, looking at `most` events of any kind. each
 * returns false to be asked about the same search again next time. */
sem_status events_scan_some(store_read *r, events_scan *scan, size_t most, event_each_search *each, void *context,
                            sem_error *err);

/* *seq = the number of the first event at or after a time; above all where there is none. The
 * log is in order of time as far as the clock is. */
sem_status events_since(store_read *r, int64_t time_ms, uint64_t *seq, sem_error *err);

#endif
