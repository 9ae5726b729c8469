/* Methods on documents: upsert, delete, get, count, scroll. */
#include "proto/fields.h"

/* --- upsert */

static const field DOC_FIELDS[] = {
    {"id", read_id, offsetof(request_doc, id), 0, true},
    {"text", read_text, offsetof(request_doc, text), 0, true},
    {"meta", read_meta, offsetof(request_doc, meta), 0, false},
    {"vector", read_vector, offsetof(request_doc, vector), 0, false},
};
static const field_table DOC_TABLE = {DOC_FIELDS, sizeof DOC_FIELDS / sizeof *DOC_FIELDS, NULL, false};

static sem_status read_docs(parser *p, void *target, sem_error *err)
{
    request *r = target;
    void *docs = NULL;
    sem_status status = read_maps(p, &DOC_TABLE, sizeof *r->u.upsert.docs, "documents", &docs, &r->u.upsert.count, err);
    r->u.upsert.docs = docs;
    for (size_t i = 0; status == SEM_OK && i < r->u.upsert.count; i++)
        r->u.upsert.docs[i].place = i;
    return status;
}

static const field UPSERT_FIELDS[] = {
    {"docs", read_docs, 0, 0, true},
    {"generation", read_positive, offsetof(request, u.upsert.generation), offsetof(request, u.upsert.has_generation),
     false},
};

const method_form FORM_UPSERT = {
    .name = "upsert",
    .table = {UPSERT_FIELDS, sizeof UPSERT_FIELDS / sizeof *UPSERT_FIELDS, &COLLECTION_FIELDS, false},
};

/* --- delete */

static sem_status read_erase_ids(parser *p, void *target, sem_error *err)
{
    request *r = target;
    return read_ids(p, &r->u.erase.ids, &r->u.erase.count, err);
}

static sem_status check_delete(parser *p, request *r, sem_error *err)
{
    (void)p;
    if ((r->u.erase.ids != NULL) == (r->u.erase.filter.data != NULL))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "ids, filter: exactly one of the two must be given");
    return SEM_OK;
}

static const field DELETE_FIELDS[] = {
    {"ids", read_erase_ids, 0, 0, false},
    {"filter", read_filter, offsetof(request, u.erase.filter), 0, false},
};

const method_form FORM_DELETE = {
    .name = "delete",
    .table = {DELETE_FIELDS, sizeof DELETE_FIELDS / sizeof *DELETE_FIELDS, &COLLECTION_FIELDS, false},
    .check = check_delete,
};

/* --- get */

static sem_status read_get_ids(parser *p, void *target, sem_error *err)
{
    request *r = target;
    return read_ids(p, &r->u.get.ids, &r->u.get.count, err);
}

static void get_defaults(request *r)
{
    r->u.get.with = WITH_TEXT | WITH_META;
}

static const field GET_FIELDS[] = {
    {"ids", read_get_ids, 0, 0, true},
    {"with", read_with, offsetof(request, u.get.with), 0, false},
};

const method_form FORM_GET = {
    .name = "get",
    .table = {GET_FIELDS, sizeof GET_FIELDS / sizeof *GET_FIELDS, &COLLECTION_FIELDS, false},
    .defaults = get_defaults,
};

/* --- count */

static const field COUNT_FIELDS[] = {
    {"filter", read_filter, offsetof(request, u.count.filter), 0, false},
};

const method_form FORM_COUNT = {
    .name = "count",
    .table = {COUNT_FIELDS, sizeof COUNT_FIELDS / sizeof *COUNT_FIELDS, &COLLECTION_FIELDS, false},
};

/* --- scroll */

sem_status read_after(parser *p, void *target, sem_error *err)
{
    value_cursor start = p->at;
    value_head head;
    if (value_next(&p->at, &head) && head.kind == VALUE_BIN) {
        *(span *)target = (span){(const char *)head.data, (size_t)head.number};
        return SEM_OK;
    }
    p->at = start;
    return read_string(p, target, err);
}

sem_status read_limit(parser *p, void *target, sem_error *err)
{
    uint64_t value;
    sem_status status = read_range(p, 1, p->limits->scroll, &value, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "limits.scroll");
    *(size_t *)target = (size_t)value;
    return SEM_OK;
}

void limit_page(const parser *p, size_t *limit)
{
    if (*limit > p->limits->scroll)
        *limit = p->limits->scroll;
}

static void scroll_defaults(request *r)
{
    r->u.scroll.limit = PAGE_LIMIT_DEFAULT;
    r->u.scroll.with = WITH_TEXT | WITH_META;
}

static sem_status check_scroll(parser *p, request *r, sem_error *err)
{
    (void)err;
    limit_page(p, &r->u.scroll.limit);
    return SEM_OK;
}

static const field SCROLL_FIELDS[] = {
    {"after", read_after, offsetof(request, u.scroll.after), 0, false},
    {"limit", read_limit, offsetof(request, u.scroll.limit), 0, false},
    {"filter", read_filter, offsetof(request, u.scroll.filter), 0, false},
    {"with", read_with, offsetof(request, u.scroll.with), 0, false},
};

const method_form FORM_SCROLL = {
    .name = "scroll",
    .table = {SCROLL_FIELDS, sizeof SCROLL_FIELDS / sizeof *SCROLL_FIELDS, &COLLECTION_FIELDS, false},
    .defaults = scroll_defaults,
    .check = check_scroll,
};
