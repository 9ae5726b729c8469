/* The text form of a listening address: tcp://host:port, tcp://[v6]:port or
 * unix:/path; and host:port for HTTP. */
#ifndef SEM_DAEMON_ENDPOINT_H
#define SEM_DAEMON_ENDPOINT_H

#include "base/status.h"

#include <stdbool.h>

enum {
    ENDPOINT_HOST_MAX = 240, /* bytes, NUL included */
    ENDPOINT_PATH_MAX = 108, /* bytes of sun_path, NUL included */
    ENDPOINT_TEXT_MAX = 256  /* bytes of the text form, NUL included */
};

typedef struct endpoint {
    bool is_unix;
    char host[ENDPOINT_HOST_MAX]; /* without brackets; "" for every address of the machine */
    char port[6];                 /* decimal, 0 to 65535 */
    char path[ENDPOINT_PATH_MAX]; /* if is_unix */
} endpoint;

/* Reads tcp:// and unix: forms. tls:// is refused by name. */
sem_status endpoint_parse(endpoint *out, const char *text, sem_error *err);

/* Reads host:port. */
sem_status endpoint_parse_host_port(endpoint *out, const char *text, sem_error *err);

#endif
