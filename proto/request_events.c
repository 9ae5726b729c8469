/* The log of searches, clicks and feedback. */
#include "proto/fields.h"

/* --- events */

/* What an answer named as `next`, or the seq of an event. */
static sem_status read_position(parser *p, void *target, sem_error *err)
{
    request *r = target;
    value_cursor start = p->at;
    value_head head;
    bool number = value_next(&p->at, &head) && head.kind == VALUE_UINT;
    p->at = start;
    r->u.events.has_seq = number;
    if (number)
        return read_range(p, 0, UINT64_MAX, &r->u.events.seq, err);
    return read_after(p, &r->u.events.after, err);
}

static sem_status read_kinds(parser *p, void *target, sem_error *err)
{
    static const char *const kinds[] = {"search", "click", "feedback", NULL}; /* KIND_ bits, in this order */
    sem_status status = read_words(p, kinds, target, err);
    if (status == SEM_OK && *(unsigned *)target == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must name one of \"search\", \"click\", \"feedback\" at least");
    return status;
}

static void events_defaults(request *r)
{
    r->u.events.limit = PAGE_LIMIT_DEFAULT;
    r->u.events.kinds = KIND_ALL;
}

static sem_status check_events(parser *p, request *r, sem_error *err)
{
    (void)err;
    limit_page(p, &r->u.events.limit);
    return SEM_OK;
}

static const field EVENTS_FIELDS[] = {
    {"after", read_position, 0, 0, false},
    {"limit", read_limit, offsetof(request, u.events.limit), 0, false},
    {"kinds", read_kinds, offsetof(request, u.events.kinds), 0, false},
};

const method_form FORM_EVENTS = {
    .name = "events",
    .table = {EVENTS_FIELDS, sizeof EVENTS_FIELDS / sizeof *EVENTS_FIELDS, &DEADLINE_FIELDS, false},
    .defaults = events_defaults,
    .check = check_events,
};

/* --- events.erase */

static sem_status read_time(parser *p, void *target, sem_error *err)
{
    return read_range(p, 0, INT64_MAX, target, err);
}

static sem_status check_erase(parser *p, request *r, sem_error *err)
{
    (void)p;
    if ((r->u.events_erase.user.data != NULL) + r->u.events_erase.has_id + r->u.events_erase.has_before != 1)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "user, id, before: exactly one of the three must be given");
    return SEM_OK;
}

static const field ERASE_FIELDS[] = {
    {"user", read_user, offsetof(request, u.events_erase.user), 0, false},
    {"id", read_id, offsetof(request, u.events_erase.id), offsetof(request, u.events_erase.has_id), false},
    {"before", read_time, offsetof(request, u.events_erase.before), offsetof(request, u.events_erase.has_before),
     false},
};

const method_form FORM_EVENTS_ERASE = {
    .name = "events.erase",
    .table = {ERASE_FIELDS, sizeof ERASE_FIELDS / sizeof *ERASE_FIELDS, &DEADLINE_FIELDS, false},
    .check = check_erase,
};
