/* evaluate: queries with the documents that each should find. */
#include "proto/fields.h"

static sem_status read_relevant(parser *p, void *target, sem_error *err)
{
    request_judged *j = target;
    sem_status status = expect_ids(p, &j->relevant_count, err);
    if (status != SEM_OK)
        return status;
    const unsigned char *start = p->at.at;
    for (size_t i = 0; i < j->relevant_count; i++) {
        docid id;
        if (read_id(p, &id, err) != SEM_OK)
            return sem_error_prefix(err, "[%zu]", i);
    }
    j->relevant = (span){(const char *)start, (size_t)(p->at.at - start)};
    return SEM_OK;
}

/* The ids stay as they came: as docids they would be many times the frame. */
bool request_next_id(span *ids, docid *out)
{
    parser p = {.at = {(const unsigned char *)ids->data, (const unsigned char *)ids->data + ids->size}};
    if (ids->size == 0 || read_id(&p, out, NULL) != SEM_OK)
        return false;
    ids->size -= (size_t)((const char *)p.at.at - ids->data);
    ids->data = (const char *)p.at.at;
    return true;
}

static const field JUDGED_FIELDS[] = {
    {"query", read_text, offsetof(request_judged, query), 0, true},
    {"relevant", read_relevant, 0, 0, true},
};
static const field_table JUDGED_TABLE = {JUDGED_FIELDS, sizeof JUDGED_FIELDS / sizeof *JUDGED_FIELDS, NULL, false};

static sem_status read_queries(parser *p, void *target, sem_error *err)
{
    request *r = target;
    void *queries = NULL;
    sem_status status =
        read_maps(p, &JUDGED_TABLE, sizeof *r->u.evaluate.queries, "queries", &queries, &r->u.evaluate.count, err);
    r->u.evaluate.queries = queries;
    return status;
}

static void evaluate_defaults(request *r)
{
    r->u.evaluate.k = K_DEFAULT;
}

static sem_status check_evaluate(parser *p, request *r, sem_error *err)
{
    (void)err;
    limit_k(p, &r->u.evaluate.k);
    return SEM_OK;
}

static const field EVALUATE_FIELDS[] = {
    {"queries", read_queries, 0, 0, true},
    {"k", read_k, offsetof(request, u.evaluate.k), 0, false},
    {"mode", read_mode, offsetof(request, u.evaluate.mode), 0, false},
};

const method_form FORM_EVALUATE = {
    .name = "evaluate",
    .table = {EVALUATE_FIELDS, sizeof EVALUATE_FIELDS / sizeof *EVALUATE_FIELDS, &COLLECTION_FIELDS, false},
    .defaults = evaluate_defaults,
    .check = check_evaluate,
};
