/* Inside proto/: from an address's text to a connected, non-blocking socket. */
#ifndef SEM_PROTO_ADDRESS_H
#define SEM_PROTO_ADDRESS_H

#include "base/status.h"

/* tcp://host:port, tcp://[::1]:port or unix:/path. *fd is the caller's to close. */
sem_status address_connect(const char *address, int timeout_ms, int *fd, sem_error *err);

#endif
