/* Searching and what people did with it: search, click, feedback. */
#include "proto/fields.h"

enum {
    USER_MAX = 256,    /* bytes */
    QUERY_ID_MAX = 64, /* bytes */
    WEIGHT_MAX = 10
};

/* --- search */

sem_status read_k(parser *p, void *target, sem_error *err)
{
    uint64_t value;
    sem_status status = read_range(p, 1, p->limits->k, &value, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "limits.k");
    *(size_t *)target = (size_t)value;
    return SEM_OK;
}

void limit_k(const parser *p, size_t *k)
{
    if (*k > p->limits->k)
        *k = p->limits->k;
}

sem_status read_mode(parser *p, void *target, sem_error *err)
{
    static const char *const modes[] = {"dense", "lexical", "hybrid", NULL};
    size_t choice;
    sem_status status = read_choice(p, modes, &choice, err);
    if (status == SEM_OK)
        *(search_mode *)target = (search_mode)choice;
    return status;
}

static sem_status read_recall(parser *p, void *target, sem_error *err)
{
    sem_status status = read_number(p, 0, 1, target, err);
    if (status == SEM_OK && *(double *)target == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be above 0 and at most 1, found 0");
    return status;
}

static sem_status read_nprobe(parser *p, void *target, sem_error *err)
{
    uint64_t value;
    sem_status status = read_range(p, 1, UINT32_MAX, &value, err);
    if (status == SEM_OK)
        *(size_t *)target = (size_t)value;
    return status;
}

sem_status read_user(parser *p, void *target, sem_error *err)
{
    span *user = target;
    sem_status status = read_string(p, user, err);
    if (status == SEM_OK && user->size > USER_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu bytes, at most %d", user->size, USER_MAX);
    return status;
}

static void search_defaults(request *r)
{
    r->u.search.k = K_DEFAULT;
    r->u.search.log = true;
}

static sem_status check_search(parser *p, request *r, sem_error *err)
{
    int subjects = (r->u.search.query.data != NULL) + (r->u.search.vector.data != NULL) + r->u.search.has_like;
    if (subjects != 1)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "query, vector, like: exactly one of the three must be given");
    if (r->u.search.has_generation && r->u.search.vector.data == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "generation: goes only with vector");
    if (r->u.search.has_recall + (r->u.search.nprobe > 0) + r->u.search.exact > 1)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "recall, nprobe, exact: they exclude each other, give one at most");
    if (r->u.search.mode != SEARCH_DENSE && r->u.search.query.data == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "mode: lexical and hybrid search for words; give query, not vector or like");
    if (r->u.search.mode == SEARCH_LEXICAL && (r->u.search.has_recall || r->u.search.nprobe > 0 || r->u.search.exact))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "recall, nprobe, exact: they are about vectors, and mode lexical compares none");
    limit_k(p, &r->u.search.k);
    return SEM_OK;
}

static const field SEARCH_FIELDS[] = {
    {"query", read_text, offsetof(request, u.search.query), 0, false},
    {"vector", read_vector, offsetof(request, u.search.vector), 0, false},
    {"like", read_id, offsetof(request, u.search.like), offsetof(request, u.search.has_like), false},
    {"generation", read_positive, offsetof(request, u.search.generation), offsetof(request, u.search.has_generation),
     false},
    {"k", read_k, offsetof(request, u.search.k), 0, false},
    {"filter", read_filter, offsetof(request, u.search.filter), 0, false},
    {"mode", read_mode, offsetof(request, u.search.mode), 0, false},
    {"recall", read_recall, offsetof(request, u.search.recall), offsetof(request, u.search.has_recall), false},
    {"nprobe", read_nprobe, offsetof(request, u.search.nprobe), 0, false},
    {"exact", read_bool, offsetof(request, u.search.exact), 0, false},
    {"with", read_with, offsetof(request, u.search.with), 0, false},
    {"log", read_bool, offsetof(request, u.search.log), 0, false},
    {"user", read_user, offsetof(request, u.search.user), 0, false},
};

const method_form FORM_SEARCH = {
    .name = "search",
    .table = {SEARCH_FIELDS, sizeof SEARCH_FIELDS / sizeof *SEARCH_FIELDS, &COLLECTION_FIELDS, false},
    .defaults = search_defaults,
    .check = check_search,
};

const method_form FORM_EXPLAIN = {
    .name = "explain",
    .table = {SEARCH_FIELDS, sizeof SEARCH_FIELDS / sizeof *SEARCH_FIELDS, &COLLECTION_FIELDS, false},
    .defaults = search_defaults,
    .check = check_search,
};

/* --- click */

static sem_status read_query_id(parser *p, void *target, sem_error *err)
{
    span *id = target;
    sem_status status = read_word(p, id, err);
    if (status == SEM_OK && id->size > QUERY_ID_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu bytes, at most %d", id->size, QUERY_ID_MAX);
    return status;
}

static sem_status read_weight(parser *p, void *target, sem_error *err)
{
    return read_number(p, 0, WEIGHT_MAX, target, err);
}

static void click_defaults(request *r)
{
    r->u.click.weight = 1.0;
}

static const field CLICK_FIELDS[] = {
    {"query_id", read_query_id, offsetof(request, u.click.query_id), 0, true},
    {"id", read_id, offsetof(request, u.click.id), 0, true},
    {"weight", read_weight, offsetof(request, u.click.weight), 0, false},
};

const method_form FORM_CLICK = {
    .name = "click",
    .table = {CLICK_FIELDS, sizeof CLICK_FIELDS / sizeof *CLICK_FIELDS, &DEADLINE_FIELDS, false},
    .defaults = click_defaults,
};

/* --- feedback */

static sem_status read_label(parser *p, void *target, sem_error *err)
{
    value_head head;
    if (value_next(&p->at, &head)) {
        bool one = head.kind == VALUE_UINT && head.number == 1;
        if (one || (head.kind == VALUE_INT && head.number == UINT64_MAX)) {
            *(int *)target = one ? 1 : -1;
            return SEM_OK;
        }
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "must be the integer 1 (relevant) or -1 (not relevant)");
}

static const field PAIR_FIELDS[] = {
    {"query", read_text, offsetof(request_pair, query), 0, true},
    {"id", read_id, offsetof(request_pair, id), offsetof(request_pair, by_id), false},
    {"text", read_text, offsetof(request_pair, text), 0, false},
    {"label", read_label, offsetof(request_pair, label), 0, true},
};
static const field_table PAIR_TABLE = {PAIR_FIELDS, sizeof PAIR_FIELDS / sizeof *PAIR_FIELDS, NULL, false};

static sem_status read_pairs(parser *p, void *target, sem_error *err)
{
    request *r = target;
    void *found = NULL;
    sem_status status =
        read_maps(p, &PAIR_TABLE, sizeof *r->u.feedback.pairs, "pairs", &found, &r->u.feedback.count, err);
    if (status != SEM_OK)
        return status;
    r->u.feedback.pairs = found;
    for (size_t i = 0; i < r->u.feedback.count; i++) {
        const request_pair *pair = &r->u.feedback.pairs[i];
        if (pair->by_id == (pair->text.data != NULL))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "[%zu]: id, text: exactly one of the two must be given", i);
    }
    return SEM_OK;
}

static const field FEEDBACK_FIELDS[] = {
    {"pairs", read_pairs, 0, 0, true},
};

const method_form FORM_FEEDBACK = {
    .name = "feedback",
    .table = {FEEDBACK_FIELDS, sizeof FEEDBACK_FIELDS / sizeof *FEEDBACK_FIELDS, &COLLECTION_FIELDS, false},
};
