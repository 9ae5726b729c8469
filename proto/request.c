#include "proto/request.h"

#include "proto/fields.h"

#include <string.h>

static const char DEFAULT_COLLECTION[] = "default";

/* A method may be called by the least role that it names, and by those above. */
static const struct {
    const method_form *form;
    rpc_role role;
} METHODS[METHOD_COUNT_OF] = {
    [METHOD_PING] = {&FORM_PING, ROLE_READ},
    [METHOD_AUTH] = {&FORM_AUTH, ROLE_NONE},
    [METHOD_INFO] = {&FORM_INFO, ROLE_READ},
    [METHOD_ENCODE] = {&FORM_ENCODE, ROLE_READ},
    [METHOD_COLLECTION_CREATE] = {&FORM_COLLECTION_CREATE, ROLE_ADMIN},
    [METHOD_COLLECTION_DROP] = {&FORM_COLLECTION_DROP, ROLE_ADMIN},
    [METHOD_COLLECTION_LIST] = {&FORM_COLLECTION_LIST, ROLE_READ},
    [METHOD_UPSERT] = {&FORM_UPSERT, ROLE_WRITE},
    [METHOD_DELETE] = {&FORM_DELETE, ROLE_WRITE},
    [METHOD_GET] = {&FORM_GET, ROLE_READ},
    [METHOD_COUNT] = {&FORM_COUNT, ROLE_READ},
    [METHOD_SCROLL] = {&FORM_SCROLL, ROLE_READ},
    [METHOD_SEARCH] = {&FORM_SEARCH, ROLE_READ},
    [METHOD_EXPLAIN] = {&FORM_EXPLAIN, ROLE_READ},
    [METHOD_CLICK] = {&FORM_CLICK, ROLE_CLICK},
    [METHOD_FEEDBACK] = {&FORM_FEEDBACK, ROLE_CLICK},
    [METHOD_EVENTS] = {&FORM_EVENTS, ROLE_ADMIN},
    [METHOD_EVENTS_ERASE] = {&FORM_EVENTS_ERASE, ROLE_ADMIN},
    [METHOD_EVALUATE] = {&FORM_EVALUATE, ROLE_READ},
    [METHOD_FINETUNE] = {&FORM_FINETUNE, ROLE_ADMIN},
    [METHOD_JOB] = {&FORM_JOB, ROLE_READ},
    [METHOD_GENERATIONS] = {&FORM_GENERATIONS, ROLE_READ},
    [METHOD_ROLLBACK] = {&FORM_ROLLBACK, ROLE_ADMIN},
    [METHOD_MODEL_LOAD] = {&FORM_MODEL_LOAD, ROLE_ADMIN},
    [METHOD_BACKUP] = {&FORM_BACKUP, ROLE_ADMIN},
    [METHOD_INDEX_EXPORT] = {&FORM_INDEX_EXPORT, ROLE_ADMIN},
    [METHOD_WATCH] = {&FORM_WATCH, ROLE_READ},
};

const char *rpc_method_name(rpc_method method)
{
    return (unsigned)method < METHOD_COUNT_OF ? METHODS[method].form->name : "";
}

rpc_role rpc_method_role(rpc_method method)
{
    return (unsigned)method < METHOD_COUNT_OF ? METHODS[method].role : ROLE_ADMIN;
}

static const char *const ROLES[] = {
    [ROLE_NONE] = "none", [ROLE_READ] = "read", [ROLE_CLICK] = "click", [ROLE_WRITE] = "write", [ROLE_ADMIN] = "admin"};

const char *rpc_role_name(rpc_role role)
{
    return (unsigned)role <= ROLE_ADMIN ? ROLES[role] : "";
}

bool rpc_role_of(const char *name, size_t size, rpc_role *role)
{
    for (unsigned i = ROLE_READ; i <= ROLE_ADMIN; i++)
        if (span_is(&(span){name, size}, ROLES[i])) {
            *role = (rpc_role)i;
            return true;
        }
    return false;
}

void request_limits_defaults(request_limits *limits)
{
    *limits = (request_limits){
        .frame_bytes = (size_t)64 << 20,
        .depth = 32,
        .max_batch = 1024,
        .upsert_docs = 1000,
        .passages = 65536,
        .text_bytes = (size_t)1 << 20,
        .meta_fields = 64,
        .meta_bytes = (size_t)16 << 10,
        .k = 10000,
        .ids = 10000,
        .scroll = 1000,
        .filter_values = 10000,
    };
}

static sem_status fail_envelope(sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "frame: a request is [0, msgid, method, params] and a notification [2, method, params]");
}

/* Up to and including the msgid; the scanner has checked all of this. */
static sem_status read_envelope(value_cursor *at, uint32_t *msgid, bool *notification, sem_error *err)
{
    value_head array, type, id;
    if (!value_next(at, &array) || array.kind != VALUE_ARRAY || !value_next(at, &type) || type.kind != VALUE_UINT)
        return fail_envelope(err);
    *notification = type.number == 2;
    if (*notification)
        return array.number == 3 ? SEM_OK : fail_envelope(err);
    if (array.number != 4 || type.number != 0)
        return fail_envelope(err);
    if (!value_next(at, &id) || id.kind != VALUE_UINT || id.number > UINT32_MAX)
        return fail_envelope(err);
    *msgid = (uint32_t)id.number;
    return SEM_OK;
}

static sem_status find_method(parser *p, rpc_method *method, sem_error *err)
{
    span name;
    if (read_string(p, &name, err) != SEM_OK)
        return sem_error_prefix(err, "method");
    for (unsigned i = 0; i < METHOD_COUNT_OF; i++)
        if (span_is(&name, METHODS[i].form->name)) {
            *method = (rpc_method)i;
            return SEM_OK;
        }
    char text[QUOTED_MAX];
    return sem_fail(err, SEM_INVALID_ARGUMENT, "unknown method: %s", quoted(text, name.data, name.size));
}

/* params is [] or [{...}]; an empty array is an empty map, so that a method
 * with required fields says which one is missing. */
static sem_status read_params(parser *p, const method_form *form, sem_error *err)
{
    static const unsigned char empty_map[] = {0x80};
    value_head array;
    if (expect(p, VALUE_ARRAY, "an array that holds one map", &array, err) != SEM_OK)
        return sem_error_prefix(err, "params");
    if (array.number > 1)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "params: must be an array that holds one map, found %zu elements",
                        (size_t)array.number);
    if (array.number == 0)
        p->at = (value_cursor){empty_map, empty_map + sizeof empty_map};
    value_cursor start = p->at;
    value_head map;
    if (expect(p, VALUE_MAP, "a map", &map, err) != SEM_OK)
        return sem_error_prefix(err, "params[0]");
    p->at = start;
    return fields_read(p, &form->table, p->request, err);
}

static sem_status read_method(parser *p, sem_error *err)
{
    request *r = p->request;
    sem_status status = find_method(p, &r->method, err);
    if (status != SEM_OK)
        return status;
    const method_form *form = METHODS[r->method].form;
    r->collection = (span){DEFAULT_COLLECTION, sizeof DEFAULT_COLLECTION - 1};
    if (form->defaults != NULL)
        form->defaults(r);
    status = read_params(p, form, err);
    if (status == SEM_OK && form->check != NULL)
        status = form->check(p, r, err);
    return status;
}

bool request_find_method(const buffer *frame, rpc_method *method, uint32_t *msgid, bool *notification)
{
    sem_error unread;
    parser p = {.at = {frame->data, frame->data + frame->size}};
    *msgid = 0;
    *notification = false;
    return read_envelope(&p.at, msgid, notification, &unread) == SEM_OK && find_method(&p, method, &unread) == SEM_OK;
}

sem_status request_parse(request **out, buffer *frame, const request_limits *limits, uint32_t *msgid,
                         bool *notification, sem_error *err)
{
    sem_error unread;
    if (err == NULL)
        err = &unread;
    *out = NULL;
    *msgid = 0;
    *notification = false;
    parser p = {.at = {frame->data, frame->data + frame->size}, .limits = limits};
    sem_status status = read_envelope(&p.at, msgid, notification, err);
    request *r = status == SEM_OK ? pool_take_cleared(frame->memory, 1, sizeof *r) : NULL;
    if (r == NULL) {
        buffer_free(frame);
        return status != SEM_OK ? status : sem_fail_memory(err, "a request");
    }
    r->frame = *frame;
    *frame = (buffer){.memory = frame->memory};
    r->msgid = *msgid;
    r->notification = *notification;
    p.request = r;
    status = read_method(&p, err);
    if (status != SEM_OK) {
        request_free(r);
        return status;
    }
    *out = r;
    return SEM_OK;
}

void request_free(request *r)
{
    if (r == NULL)
        return;
    pool_give(r->arena);
    buffer_free(&r->frame);
    pool_give(r);
}
