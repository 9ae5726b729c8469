/* Times of the day at which something starts by itself, as people write them: "03:30",
 * "Sun 03:30", "Mon,Thu 03:30". In local time, whatever daylight saving does to it. */
#ifndef SEM_DAEMON_CALENDAR_H
#define SEM_DAEMON_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

typedef struct calendar {
    unsigned days; /* bit 0: Sunday, as tm_wday */
    int hour, minute;
} calendar;

/* False when text is none. */
bool calendar_parse(calendar *out, const char *text);

/* The last moment up to now (Unix seconds) at which it was that time of such a day. Of a time
 * that there was twice, when clocks were set back, one; of a time that there was not, when they
 * were set forward, the moment that far from the last change as if they had not been. */
int64_t calendar_last(const calendar *c, int64_t now_s);

#endif
