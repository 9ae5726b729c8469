/* The text form of a listening address: tcp://host:port, tcp://[v6]:port or
 * unix:/path; and host:port for HTTP. */
#ifndef SEM_DAEMON_ADDRESS_H
#define SEM_DAEMON_ADDRESS_H

#include "base/status.h"

#include <stdbool.h>

enum {
    ADDRESS_HOST_MAX = 240, /* bytes, NUL included */
    ADDRESS_PATH_MAX = 108, /* bytes of sun_path, NUL included */
    ADDRESS_TEXT_MAX = 256  /* bytes of the text form, NUL included */
};

typedef struct address {
    bool is_unix;
    char host[ADDRESS_HOST_MAX]; /* without brackets; "" for every address of the machine */
    char port[6];                /* decimal, 0 to 65535 */
    char path[ADDRESS_PATH_MAX]; /* if is_unix */
} address;

/* Reads tcp:// and unix: forms. tls:// is refused by name. */
sem_status address_parse(address *out, const char *text, sem_error *err);

/* Reads host:port. */
sem_status address_parse_host_port(address *out, const char *text, sem_error *err);

#endif
