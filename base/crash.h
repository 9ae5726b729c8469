/* Labelled points at which a test has the process killed, as a power cut or the kernel would:
 * what is on disk then must be whole. SEMD_CRASH_AT=label ends it at the first time that a
 * thread comes there, label:N at the N-th. SEMD_PAUSE_AT=label has the thread wait there,
 * once, until the file that SEMD_PAUSE_UNTIL names exists, five minutes at most, so that something can be done to
 * the process at that moment. Where neither is set a point costs a call and a branch. */
#ifndef SEM_BASE_CRASH_H
#define SEM_BASE_CRASH_H

/* Any thread. label: a string literal of words joined by dots, the first of which says what
 * is under way. The test of crashes finds every label by looking for such calls, so each
 * stands in the call. */
void crash_point(const char *label);

#endif
