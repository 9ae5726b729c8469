/* Generations: which model serves, which did, which may. `generation` in meta is
 * the number of the current one, and exactly that record's state is current. */
#include "index/store_internal.h"

#include <stdlib.h>

enum {
    RECORD_FIXED = 35, /* bytes before mode, model and metrics */
    STATE_OFFSET = 12,
    METRICS_MAX = 1 << 20, /* bytes of JSON */
    HAS_QUERY_MODEL = 128, /* in the byte of the mode's length */
    RECORD_SMALL = RECORD_FIXED + sizeof((store_generation *)0)->mode + 2 * STORE_MODEL_MAX + 1
};

void store_generation_free(store_generation *g)
{
    if (g == NULL)
        return;
    free(g->metrics);
    g->metrics = NULL;
}

void store_generations_free(store_generation *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        store_generation_free(&list[i]);
    free(list);
}

const char *store_generation_query_model(const store_generation *g)
{
    return g->query_model[0] != '\0' ? g->query_model : g->model;
}

size_t store_generation_models(const store_generation *g, const char *names[STORE_GENERATION_MODELS])
{
    size_t count = 0;
    if (g->model[0] != '\0')
        names[count++] = g->model;
    if (g->query_model[0] != '\0' && strcmp(g->query_model, g->model) != 0)
        names[count++] = g->query_model;
    return count;
}

bool store_generation_names(const store_generation *g, const char *model)
{
    const char *names[STORE_GENERATION_MODELS];
    for (size_t i = store_generation_models(g, names); i-- > 0;)
        if (strcmp(names[i], model) == 0)
            return true;
    return false;
}

static bool is_folder(const char name[STORE_MODEL_MAX + 1])
{
    return memchr(name, '\0', STORE_MODEL_MAX + 1) != NULL && strchr(name, '/') == NULL;
}

static sem_status check_generation(const store_generation *g, sem_error *err)
{
    if (g->number == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "generation 0 does not exist, numbers start at 1");
    if ((unsigned)g->state > GENERATION_RETIRED)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "generation %u: %u is no state", g->number, (unsigned)g->state);
    if (memchr(g->mode, '\0', sizeof g->mode) == NULL || !is_folder(g->model) || !is_folder(g->query_model))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "generation %u: mode or model folder is too long or no name",
                        g->number);
    if (g->metrics != NULL && strlen(g->metrics) > METRICS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "generation %u: metrics have more than %d bytes", g->number,
                        METRICS_MAX);
    return SEM_OK;
}

static size_t encode_head(const store_generation *g, unsigned char out[RECORD_SMALL])
{
    size_t mode = strlen(g->mode), model = strlen(g->model), query = strlen(g->query_model);
    put_u32(out, g->parent);
    put_u64(out + 4, (uint64_t)g->created_ms);
    out[STATE_OFFSET] = (unsigned char)g->state;
    put_u64(out + 13, g->pairs);
    put_u32(out + 21, g->space);
    put_u32(out + 25, g->dim);
    put_u32(out + 29, g->job);
    out[33] = (unsigned char)mode;
    out[34] = (unsigned char)model;
    memcpy(out + RECORD_FIXED, g->mode, mode);
    memcpy(out + RECORD_FIXED + mode, g->model, model);
    size_t size = RECORD_FIXED + mode + model;
    if (query == 0)
        return size;
    out[33] |= HAS_QUERY_MODEL;
    out[size] = (unsigned char)query;
    memcpy(out + size + 1, g->query_model, query);
    return size + 1 + query;
}

/* What follows the mode and the model, from *at on; false where it is of another form. */
static bool decode_query_model(const unsigned char *p, size_t size, size_t *at, store_generation *out)
{
    if ((p[33] & HAS_QUERY_MODEL) == 0)
        return true;
    if (*at == size || p[*at] == 0 || p[*at] > STORE_MODEL_MAX || size - *at - 1 < p[*at])
        return false;
    memcpy(out->query_model, p + *at + 1, p[*at]);
    *at += 1 + (size_t)p[*at];
    return true;
}

static sem_status decode(store_read *r, uint32_t number, const MDB_val *value, store_generation *out, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    size_t size = value->mv_size, mode = size < RECORD_FIXED ? 0 : p[33] & (HAS_QUERY_MODEL - 1);
    if (size < RECORD_FIXED || p[STATE_OFFSET] > GENERATION_RETIRED || mode >= sizeof out->mode ||
        p[34] > STORE_MODEL_MAX || size < RECORD_FIXED + mode + p[34])
        return environment_damaged(&r->s->main, "a generation's record", err);
    *out = (store_generation){.number = number,
                              .parent = get_u32(p),
                              .created_ms = (int64_t)get_u64(p + 4),
                              .state = (generation_state)p[STATE_OFFSET],
                              .pairs = get_u64(p + 13),
                              .space = get_u32(p + 21),
                              .dim = get_u32(p + 25),
                              .job = get_u32(p + 29)};
    size_t at = RECORD_FIXED;
    memcpy(out->mode, p + at, mode);
    at += mode;
    memcpy(out->model, p + at, p[34]);
    at += p[34];
    if (!decode_query_model(p, size, &at, out))
        return environment_damaged(&r->s->main, "a generation's record", err);
    if (at == size)
        return SEM_OK;
    out->metrics = malloc(size - at + 1);
    if (out->metrics == NULL)
        return sem_fail_memory(err, "a generation's metrics");
    memcpy(out->metrics, p + at, size - at);
    out->metrics[size - at] = '\0';
    return SEM_OK;
}

static sem_status load(store_read *r, uint32_t number, MDB_val *value, bool *found, sem_error *err)
{
    unsigned char key[4];
    MDB_txn *txn;
    put_u32(key, number);
    *found = false;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    return status != SEM_OK ? status
                            : table_get(&r->s->main, txn, r->s->generations, key, sizeof key, value, found, err);
}

sem_status store_generation_get(store_read *r, uint32_t number, store_generation *out, bool *found, sem_error *err)
{
    MDB_val value;
    sem_status status = load(r, number, &value, found, err);
    return status != SEM_OK || !*found ? status : decode(r, number, &value, out, err);
}

static sem_status current_number(store_read *r, uint32_t *number, sem_error *err)
{
    MDB_txn *txn;
    uint64_t value = 0;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_get(&r->s->main, txn, "generation", &value, err);
    *number = (uint32_t)value;
    return status;
}

sem_status store_generation_current(store_read *r, store_generation *out, bool *found, sem_error *err)
{
    uint32_t number;
    *found = false;
    sem_status status = current_number(r, &number, err);
    return status != SEM_OK || number == 0 ? status : store_generation_get(r, number, out, found, err);
}

sem_status store_generation_list(store_read *r, store_generation **out, size_t *count, sem_error *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_stat stat;
    MDB_val key, value;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_stat(txn, r->s->generations, &stat);
    if (rc != 0 || (rc = mdb_cursor_open(txn, r->s->generations, &cursor)) != 0)
        return environment_fail(&r->s->main, "list generations", rc, err);
    size_t used = 0;
    store_generation *list = calloc(stat.ms_entries + 1, sizeof *list);
    if (list == NULL)
        status = sem_fail_memory(err, "a list of generations");
    while (status == SEM_OK && used < stat.ms_entries && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        status = key.mv_size == 4 ? decode(r, get_u32(key.mv_data), &value, &list[used], err)
                                  : environment_damaged(&r->s->main, "a generation's number", err);
        used += status == SEM_OK;
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->main, "list generations", rc, err);
    if (status != SEM_OK) {
        store_generations_free(list, used);
        return status;
    }
    *out = list;
    *count = used;
    return SEM_OK;
}

/* --- writing; inside an operation */

static sem_status put_record(store_write *w, const store_generation *g, sem_error *err)
{
    unsigned char key[4], head[RECORD_SMALL];
    MDB_txn *txn;
    size_t size = encode_head(g, head), metrics = g->metrics == NULL ? 0 : strlen(g->metrics);
    put_u32(key, g->number);
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    MDB_val k = as_value(key, sizeof key), v = {.mv_size = size + metrics};
    int rc = mdb_put(txn, w->s->generations, &k, &v, MDB_RESERVE);
    if (rc != 0)
        return environment_fail(&w->s->main, "write a generation", rc, err);
    memcpy(v.mv_data, head, size);
    if (metrics > 0)
        memcpy((unsigned char *)v.mv_data + size, g->metrics, metrics);
    return g->state != GENERATION_CURRENT ? SEM_OK : meta_put(&w->s->main, txn, "generation", g->number, err);
}

sem_status store_generation_put(store_write *w, const store_generation *g, sem_error *err)
{
    uint32_t current;
    sem_status status = check_generation(g, err);
    if (status == SEM_OK)
        status = current_number(&w->view, &current, err);
    if (status != SEM_OK)
        return status;
    bool becomes = g->state == GENERATION_CURRENT;
    if (current != 0 && becomes != (current == g->number))
        return sem_fail(err, SEM_FAILED_PRECONDITION, "generation %u is current; only a flip changes that", current);
    status = operation_begin(w, err);
    return status != SEM_OK ? status : operation_end(w, put_record(w, g, err), err);
}

sem_status store_generation_remove(store_write *w, uint32_t number, sem_error *err)
{
    uint32_t current;
    unsigned char key[4];
    MDB_txn *txn;
    sem_status status = current_number(&w->view, &current, err);
    if (status != SEM_OK)
        return status;
    if (number == current)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "generation %u is current and cannot be removed", number);
    put_u32(key, number);
    status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_delete(&w->s->main, txn, w->s->generations, key, sizeof key, err);
    return operation_end(w, status, err);
}

sem_status store_generation_next(store_write *w, uint32_t *generation, uint32_t *space_number, sem_error *err)
{
    MDB_txn *txn;
    uint64_t g = 0, n = 0;
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_next(&w->s->main, txn, "next_generation", UINT32_MAX, &g, err);
    if (status == SEM_OK && space_number != NULL)
        status = meta_next(&w->s->main, txn, "next_space", UINT32_MAX, &n, err);
    status = operation_end(w, status, err);
    if (status == SEM_OK)
        *generation = (uint32_t)g;
    if (status == SEM_OK && space_number != NULL)
        *space_number = (uint32_t)n;
    return status;
}

/* Changes one byte of a record. */
static sem_status set_state(store_write *w, uint32_t number, generation_state state, sem_error *err)
{
    MDB_val value;
    bool found;
    store_generation g = {0};
    sem_status status = load(&w->view, number, &value, &found, err);
    if (status == SEM_OK && !found)
        status = sem_fail(err, SEM_NOT_FOUND, "generation %u does not exist", number);
    if (status == SEM_OK)
        status = decode(&w->view, number, &value, &g, err);
    if (status == SEM_OK && g.state == GENERATION_RETIRED)
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "generation %u is retired, its files are gone", number);
    if (status == SEM_OK) {
        g.state = state;
        status = put_record(w, &g, err);
    }
    store_generation_free(&g);
    return status;
}

sem_status store_generation_flip(store_write *w, uint32_t number, generation_state old_state, sem_error *err)
{
    uint32_t current;
    sem_status status = current_number(&w->view, &current, err);
    if (status != SEM_OK || current == number)
        return status;
    if (old_state == GENERATION_CURRENT || (unsigned)old_state > GENERATION_RETIRED)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "generation %u cannot stay current beside generation %u", current,
                        number);
    status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    if (current != 0)
        status = set_state(w, current, old_state, err);
    if (status == SEM_OK)
        status = set_state(w, number, GENERATION_CURRENT, err);
    return operation_end(w, status, err);
}
