#include "daemon/core_metrics.h"

#include "daemon/jobs.h"
#include "daemon/watchdog.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool metric(buffer *out, const char *name, const char *kind, uint64_t value)
{
    return buffer_print(out, "# TYPE %s %s\n%s %llu\n", name, kind, name, (unsigned long long)value);
}

/* Time from arrival to answer; a method that was never called has no rows. */
static bool latencies(core *c, buffer *out)
{
    static const char name[] = "semd_request_seconds";
    bool ok = buffer_print(out, "# TYPE %s histogram\n", name);
    for (int m = 0; m < METHOD_COUNT_OF; m++) {
        const char *method = rpc_method_name((rpc_method)m);
        uint64_t sum = 0;
        if (c->stats.requests[m] == 0)
            continue;
        for (int i = 0; i < CORE_BUCKETS - 1; i++) {
            sum += c->stats.within[m][i];
            ok = ok && buffer_print(out, "%s_bucket{method=\"%s\",le=\"%g\"} %llu\n", name, method,
                                    (double)core_bucket_us[i] / 1e6, (unsigned long long)sum);
        }
        sum += c->stats.within[m][CORE_BUCKETS - 1];
        ok = ok &&
             buffer_print(out, "%s_bucket{method=\"%s\",le=\"+Inf\"} %llu\n", name, method, (unsigned long long)sum) &&
             buffer_print(out, "%s_sum{method=\"%s\"} %.6f\n", name, method, (double)c->stats.micros[m] / 1e6) &&
             buffer_print(out, "%s_count{method=\"%s\"} %llu\n", name, method, (unsigned long long)sum);
    }
    return ok;
}

static bool methods(core *c, buffer *out)
{
    bool ok = buffer_print(out, "# TYPE semd_requests_total counter\n");
    for (int m = 0; m < METHOD_COUNT_OF; m++)
        if (m != METHOD_AUTH) /* which the server answers, and counts */
            ok = ok && buffer_print(out, "semd_requests_total{method=\"%s\"} %llu\n", rpc_method_name((rpc_method)m),
                                    (unsigned long long)c->stats.requests[m]);
    ok = ok && buffer_print(out, "# TYPE semd_request_errors_total counter\n");
    for (int m = 0; m < METHOD_COUNT_OF; m++)
        if (m != METHOD_AUTH)
            ok = ok && buffer_print(out, "semd_request_errors_total{method=\"%s\"} %llu\n",
                                    rpc_method_name((rpc_method)m), (unsigned long long)c->stats.errors[m]);
    return ok;
}

/* Vectors in memory, summed over the collections of a space. */
static bool add_space(space *s, uint64_t *vectors, uint64_t *bytes)
{
    space_index **all;
    size_t count;
    sem_error err;
    if (space_acquire_all(s, &all, &count, &err) != SEM_OK)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t rows = vector_index_passages(all[i]->index);
        *vectors += rows;
        *bytes += rows * vector_index_dim(all[i]->index) * sizeof(float);
        space_index_release(all[i]);
    }
    free(all);
    return true;
}

static bool indices(core *c, buffer *out)
{
    uint64_t vectors = 0, bytes = 0;
    serving *now = serving_slot_acquire(&c->current), *next = serving_slot_acquire(&c->candidate);
    bool ok = add_space(c->external, &vectors, &bytes) && add_space(now->space, &vectors, &bytes) &&
              (next == NULL || serving_shares_space(now, next) || add_space(next->space, &vectors, &bytes));
    ok = ok && metric(out, "semd_generation", "gauge", now->generation) &&
         metric(out, "semd_index_vectors", "gauge", vectors) && metric(out, "semd_index_bytes", "gauge", bytes);
    serving_release(now);
    serving_release(next);
    return ok;
}

static bool job_gauges(core *c, buffer *out)
{
    uint32_t number;
    bool running = job_status_running(jobs_status(c->jobs), &number);
    return metric(out, "semd_job_running", "gauge", running) && metric(out, "semd_job_number", "gauge", number);
}

static bool watch(core *c, buffer *out)
{
    watchdog_state s;
    watchdog_get_state(c->watchdog, &s);
    return metric(out, "semd_watchdog_watching", "gauge", s.watching) &&
           metric(out, "semd_watchdog_alarm", "gauge", s.alarm) &&
           metric(out, "semd_watchdog_alarms_total", "counter", s.alarms) &&
           buffer_print(out, "# TYPE semd_watchdog_searches gauge\n") &&
           buffer_print(out, "semd_watchdog_searches{generation=\"before\"} %zu\n", s.searches[0]) &&
           buffer_print(out, "semd_watchdog_searches{generation=\"current\"} %zu\n", s.searches[1]) &&
           buffer_print(out, "# TYPE semd_watchdog_clickthrough gauge\n") &&
           buffer_print(out, "semd_watchdog_clickthrough{generation=\"before\"} %.6f\n", s.rates[0]) &&
           buffer_print(out, "semd_watchdog_clickthrough{generation=\"current\"} %.6f\n", s.rates[1]);
}

static uint64_t resident_bytes(void)
{
    unsigned long long total, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        if (fscanf(f, "%llu %llu", &total, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool cache(core *c, buffer *out)
{
    query_cache_stats s;
    query_cache_get_stats(c->queries, &s);
    return metric(out, "semd_query_cache_hits_total", "counter", s.hits) &&
           metric(out, "semd_query_cache_misses_total", "counter", s.misses) &&
           metric(out, "semd_query_cache_evictions_total", "counter", s.evictions) &&
           metric(out, "semd_query_cache_entries", "gauge", s.entries) &&
           metric(out, "semd_query_cache_bytes", "gauge", s.bytes);
}

static bool memory(core *c, buffer *out)
{
    pool_stats s = {0};
    if (c->hooks.memory != NULL)
        pool_get_stats(c->hooks.memory, &s);
    return metric(out, "semd_pool_blocks_total", "counter", s.taken) &&
           metric(out, "semd_pool_allocations_total", "counter", s.allocated) &&
           metric(out, "semd_pool_kept_bytes", "gauge", s.kept);
}

bool core_metrics(core *c, buffer *out)
{
    core_stats *s = &c->stats;
    return methods(c, out) && latencies(c, out) && indices(c, out) && job_gauges(c, out) && watch(c, out) &&
           cache(c, out) && memory(c, out) && buffer_print(out, "# TYPE semd_queue_length gauge\n") &&
           buffer_print(out, "semd_queue_length{lane=\"queries\"} %zu\n", queue_length(c->work, QUEUE_FAST)) &&
           buffer_print(out, "semd_queue_length{lane=\"documents\"} %zu\n", queue_length(c->work, QUEUE_SLOW)) &&
           metric(out, "semd_queue_bytes", "gauge", c->held_bytes) &&
           metric(out, "semd_texts_encoded_total", "counter", s->texts_encoded) &&
           metric(out, "semd_tokens_encoded_total", "counter", s->tokens_encoded) &&
           metric(out, "semd_batches_encoded_total", "counter", s->batches) &&
           metric(out, "semd_commits_total", "counter", s->commits) &&
           metric(out, "semd_events_dropped_total", "counter", s->events_dropped) &&
           metric(out, "semd_requests_dropped_total", "counter", s->dropped) &&
           metric(out, "semd_store_bytes", "gauge", s->store_bytes) &&
           metric(out, "process_resident_memory_bytes", "gauge", resident_bytes());
}
