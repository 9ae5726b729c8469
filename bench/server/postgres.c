/* PostgreSQL with pgvector through libpq: prepared statements, vectors in binary. */
#include "bench/server/peer.h"

#include <arpa/inet.h>
#include <postgresql/libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BINARY = 1 };

struct peer_session {
    PGconn *c;
    size_t dim;
    bool prepared;
    char *vector; /* [4 + 4 dim] as pgvector sends it */
};

static sem_status fail(peer_session *s, PGresult *result, sem_error *err)
{
    PQclear(result);
    return sem_fail(err, SEM_INTERNAL, "postgres: %s", PQerrorMessage(s->c));
}

static sem_status run(peer_session *s, const char *sql, sem_error *err)
{
    PGresult *result = PQexec(s->c, sql);
    ExecStatusType what = PQresultStatus(result);
    if (what != PGRES_COMMAND_OK && what != PGRES_TUPLES_OK)
        return fail(s, result, err);
    PQclear(result);
    return SEM_OK;
}

static void close_postgres(peer_session *s)
{
    if (s == NULL)
        return;
    PQfinish(s->c);
    free(s->vector);
    free(s);
}

static sem_status open_postgres(peer_session **out, const char *address, size_t dim, sem_error *err)
{
    peer_session *s = calloc(1, sizeof *s);
    if (s == NULL || (s->vector = malloc(4 + 4 * dim)) == NULL) {
        free(s);
        return sem_fail_memory(err, "a session");
    }
    s->dim = dim;
    s->c = PQconnectdb(address);
    if (PQstatus(s->c) != CONNECTION_OK) {
        sem_status status = sem_fail(err, SEM_UNAVAILABLE, "postgres: %s", PQerrorMessage(s->c));
        close_postgres(s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

static sem_status create(peer_session *s, sem_error *err)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE documents (id bigint PRIMARY KEY, v vector(%zu))",
             s->dim);
    return run(s, sql, err);
}

static sem_status prepare(peer_session *s, sem_error *err)
{
    if (s->prepared)
        return SEM_OK;
    PGresult *result = PQprepare(s->c, "add", "INSERT INTO documents VALUES ($1::bigint, $2::vector)", 2, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return fail(s, result, err);
    PQclear(result);
    result = PQprepare(s->c, "near", "SELECT id FROM documents ORDER BY v <#> $1::vector LIMIT $2::bigint", 2, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return fail(s, result, err);
    PQclear(result);
    s->prepared = true;
    return run(s, "SET enable_seqscan = off", err);
}

static void put_vector(peer_session *s, const float *v)
{
    const uint16_t dim = htons((uint16_t)s->dim);
    memcpy(s->vector, &dim, 2);
    memset(s->vector + 2, 0, 2);
    for (size_t i = 0; i < s->dim; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, 4);
        bits = htonl(bits);
        memcpy(s->vector + 4 + 4 * i, &bits, 4);
    }
}

static void put_number(char out[8], uint64_t n)
{
    for (int i = 7; i >= 0; i--, n >>= 8)
        out[i] = (char)(n & 0xFF);
}

/* One transaction: statements and commit go out together, the answers come after. */
static sem_status insert(peer_session *s, uint64_t first, const float *vectors, size_t count, sem_error *err)
{
    const int formats[] = {BINARY, BINARY}, lengths[] = {8, (int)(4 + 4 * s->dim)};
    sem_status status = prepare(s, err);
    if (status != SEM_OK)
        return status;
    if (!PQenterPipelineMode(s->c) || !PQsendQueryParams(s->c, "BEGIN", 0, NULL, NULL, NULL, NULL, 0))
        return fail(s, NULL, err);
    for (size_t i = 0; i < count; i++) {
        char id[8];
        put_number(id, first + i);
        put_vector(s, vectors + i * s->dim);
        const char *const values[] = {id, s->vector};
        if (!PQsendQueryPrepared(s->c, "add", 2, values, lengths, formats, BINARY))
            return fail(s, NULL, err);
    }
    if (!PQsendQueryParams(s->c, "COMMIT", 0, NULL, NULL, NULL, NULL, 0) || !PQpipelineSync(s->c))
        return fail(s, NULL, err);
    for (bool over = false; !over && status == SEM_OK;) {
        PGresult *result = PQgetResult(s->c);
        ExecStatusType what = PQresultStatus(result);
        over = what == PGRES_PIPELINE_SYNC;
        if (result != NULL && what != PGRES_COMMAND_OK && !over)
            status = fail(s, result, err);
        else
            PQclear(result);
    }
    if (status == SEM_OK && !PQexitPipelineMode(s->c))
        status = fail(s, NULL, err);
    return status;
}

/* The index is made over what is there, which is far quicker than row by row. */
static sem_status settle(peer_session *s, uint64_t count, sem_error *err)
{
    PGresult *result = PQexec(s->c, "SELECT count(*) FROM documents");
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        return fail(s, result, err);
    uint64_t there = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    if (there != count)
        return sem_fail(err, SEM_INTERNAL, "postgres holds %llu rows instead of %llu", (unsigned long long)there,
                        (unsigned long long)count);
    sem_status status = run(s,
                            "CREATE INDEX IF NOT EXISTS near ON documents USING hnsw (v vector_ip_ops) "
                            "WITH (m = 16, ef_construction = 200)",
                            err);
    return status == SEM_OK ? run(s, "VACUUM ANALYZE documents", err) : status;
}

static sem_status set_effort(peer_session *s, double effort, sem_error *err)
{
    char sql[64];
    snprintf(sql, sizeof sql, "SET hnsw.ef_search = %d", (int)effort);
    sem_status status = prepare(s, err);
    return status == SEM_OK ? run(s, sql, err) : status;
}

static sem_status search(peer_session *s, const float *query, size_t k, uint32_t *ids, size_t *found, sem_error *err)
{
    const int formats[] = {BINARY, BINARY}, lengths[] = {(int)(4 + 4 * s->dim), 8};
    char limit[8];
    put_vector(s, query);
    put_number(limit, k);
    const char *const values[] = {s->vector, limit};
    PGresult *result = PQexecPrepared(s->c, "near", 2, values, lengths, formats, BINARY);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        return fail(s, result, err);
    *found = 0;
    for (int i = 0; i < PQntuples(result) && *found < k; i++) {
        uint32_t low;
        memcpy(&low, PQgetvalue(result, i, 0) + 4, sizeof low);
        ids[(*found)++] = ntohl(low);
    }
    PQclear(result);
    return SEM_OK;
}

const peer peer_postgres = {.name = "postgres",
                            .open = open_postgres,
                            .close = close_postgres,
                            .create = create,
                            .insert = insert,
                            .settle = settle,
                            .set_effort = set_effort,
                            .search = search};
