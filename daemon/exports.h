/* What a request for an export of an index to a FAISS file does. */
#ifndef SEM_DAEMON_EXPORTS_H
#define SEM_DAEMON_EXPORTS_H

#include "daemon/solo.h"

/* Writes one, or leaves nothing. */
solo_work exports_take;

#endif
