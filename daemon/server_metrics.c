#include "daemon/server_metrics.h"

#include <stdio.h>

typedef struct metric {
    const char *name, *type, *help;
    uint64_t value;
} metric;

bool server_metrics(const server_stats *stats, bool ready, buffer *out)
{
    const metric metrics[] = {
        {"semd_ready", "gauge", "1 while requests are answered.", ready},
        {"semd_server_connections", "gauge", "Open connections.", stats->connections},
        {"semd_server_accepted_total", "counter", "Connections accepted.", stats->accepted},
        {"semd_server_requests_total", "counter", "Requests and notifications read.", stats->requests},
        {"semd_server_replies_total", "counter", "Answers sent.", stats->replies},
        {"semd_server_notifications_total", "counter", "Notifications sent to connections that watch.",
         stats->notifications},
        {"semd_server_received_bytes_total", "counter", "Bytes read from clients.", stats->bytes_in},
        {"semd_server_sent_bytes_total", "counter", "Bytes of answers.", stats->bytes_out},
        {"semd_server_protocol_errors_total", "counter", "Connections closed for a broken frame.",
         stats->protocol_errors},
        {"semd_server_auth_failures_total", "counter", "Wrong tokens given.", stats->auth_failures},
        {"semd_server_denied_total", "counter", "Requests without the role that they need.", stats->denied},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        char text[256];
        const metric *m = &metrics[i];
        int n = snprintf(text, sizeof text, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", m->name, m->help, m->name, m->type,
                         m->name, (unsigned long long)m->value);
        if (n < 0 || !buffer_append(out, text, (size_t)n))
            return false;
    }
    return true;
}
