#include "daemon/endpoint.h"

#include <stdlib.h>
#include <string.h>

static sem_status parse_port(endpoint *out, const char *text, const char *port, sem_error *err)
{
    size_t length = strlen(port);
    if (length == 0 || length >= sizeof out->port || strspn(port, "0123456789") != length ||
        strtoul(port, NULL, 10) > 65535)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s has port '%s' (allowed: 0 to 65535, 0 picks a free one)", text,
                        port);
    memcpy(out->port, port, length + 1);
    return SEM_OK;
}

/* rest is host:port, [v6]:port or *:port; text is the whole, for the message. */
static sem_status parse_host_port(endpoint *out, const char *text, const char *rest, sem_error *err)
{
    const char *colon = strrchr(rest, ':');
    if (colon == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s names no port (expected host:port)", text);
    const char *host = rest;
    size_t length = (size_t)(colon - rest);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    } else if (memchr(host, ':', length) != NULL) {
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: an IPv6 address stands in brackets, as in [::1]:7700", text);
    }
    if (length == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s names no host (127.0.0.1, [::1], or * for every address)", text);
    if (length >= sizeof out->host)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the host has %zu bytes (at most %d)", text, length,
                        ENDPOINT_HOST_MAX - 1);
    bool every = length == 1 && host[0] == '*';
    memcpy(out->host, host, length);
    out->host[every ? 0 : length] = '\0';
    return parse_port(out, text, colon + 1, err);
}

sem_status endpoint_parse_host_port(endpoint *out, const char *text, sem_error *err)
{
    *out = (endpoint){0};
    return parse_host_port(out, text, text, err);
}

sem_status endpoint_parse(endpoint *out, const char *text, sem_error *err)
{
    *out = (endpoint){0};
    if (strncmp(text, "tcp://", 6) == 0)
        return parse_host_port(out, text, text + 6, err);
    if (strncmp(text, "tls://", 6) == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: this version has no TLS (use tcp:// or unix:, behind a TLS proxy if it must be)", text);
    if (strncmp(text, "unix:", 5) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "'%s' is no address (expected tcp://host:port or unix:/path)", text);
    const char *path = text + 5;
    size_t length = strlen(path);
    if (path[0] != '/')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the path of a Unix socket must be absolute", text);
    if (length >= sizeof out->path)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the path has %zu bytes (at most %d)", text, length,
                        ENDPOINT_PATH_MAX - 1);
    out->is_unix = true;
    memcpy(out->path, path, length + 1);
    return SEM_OK;
}
