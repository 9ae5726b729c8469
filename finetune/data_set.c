#include "finetune/data_set.h"

#include "base/names.h"

enum { WINDOW = 10000, WINDOW_MIB = 256, LINE_MIB = 1, MALFORMED = 100, LINE_MIN = 16, LINE_MAX_MIB = 1024 };

static const char *const FORMS[] = {"pairs", "parallel", "columns", "labelled", "sts"};
enum { FORM_COUNT = sizeof FORMS / sizeof *FORMS };

data_options data_options_defaults(void)
{
    return (data_options){
        .longest = (size_t)LINE_MIB << 20,
        .seed = 1,
        .window = WINDOW,
        .window_bytes = (size_t)WINDOW_MIB << 20,
        .max_malformed = MALFORMED,
    };
}

const char *data_form_name(data_form form)
{
    return FORMS[form];
}

bool data_form_parse(const char *name, data_form *out)
{
    size_t place;
    if (!names_find(FORMS, FORM_COUNT, name, &place))
        return false;
    *out = (data_form)place;
    return true;
}

size_t data_form_columns(data_form form)
{
    static const size_t least[FORM_COUNT] = {[DATA_COLUMNS] = 2, [DATA_LABELLED] = 2, [DATA_STS] = 3};
    return least[form];
}

/* A name that is given is of something that the form reads. */
static sem_status check_fields(const data_options *o, sem_error *err)
{
    enum { PAIRS = 1U << DATA_PAIRS, LABELLED = 1U << DATA_LABELLED, STS = 1U << DATA_STS };
    const data_fields *f = &o->fields;
    const struct {
        const char *what, *given;
        unsigned forms; /* that read it */
    } fields[] = {
        {"anchor", f->anchor, PAIRS | LABELLED | STS},
        {"positive", f->positive, PAIRS | STS},
        {"negative", f->negative, PAIRS},
        {"label", f->label, PAIRS | LABELLED},
        {"domain", f->domain, PAIRS | LABELLED},
        {"id", f->id, PAIRS | LABELLED},
        {"weight", f->weight, PAIRS | LABELLED},
        {"score", f->score, STS},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].given != NULL && (fields[i].forms & 1U << o->form) == 0)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: form %s reads no %s ('%s')", o->name,
                            data_form_name(o->form), fields[i].what, fields[i].given);
    if (o->form == DATA_PAIRS && (f->anchor != NULL) != (f->positive != NULL))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s names one member of anchor and positive, not the other",
                        o->name);
    if (f->negative != NULL && f->anchor == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s names the negative's member, but not the anchor's",
                        o->name);
    return SEM_OK;
}

static sem_status check_columns(const data_options *o, sem_error *err)
{
    const size_t least = data_form_columns(o->form);
    if (least == 0 && (o->column_count > 0 || o->header))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: form %s has no columns%s", o->name,
                        data_form_name(o->form), o->header ? ", and no header" : "");
    if (o->column_count == 0)
        return SEM_OK;
    if (o->column_count > DATA_COLUMNS_MAX || o->column_count < least)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: %zu columns are named; form %s takes %zu to %d",
                        o->name, o->column_count, data_form_name(o->form), least, DATA_COLUMNS_MAX);
    for (size_t i = 0; i < o->column_count; i++)
        if (o->columns[i] == 0)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: columns count from 1", o->name);
    return SEM_OK;
}

sem_status data_options_check(const data_options *o, sem_error *err)
{
    if (o->file_count == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s names no file", o->name);
    if (o->form == DATA_PARALLEL && o->file_count % 2 != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data set %s: form parallel takes files two by two, and there are %zu", o->name, o->file_count);
    if (o->longest < LINE_MIN || o->longest > (size_t)LINE_MAX_MIB << 20)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: lines of at most %zu bytes (allowed: %d to %zu)",
                        o->name, o->longest, LINE_MIN, (size_t)LINE_MAX_MIB << 20);
    if (o->window == 0 || o->window > UINT32_MAX || o->window_bytes == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data set %s: a window of %zu examples, %zu bytes (allowed: 1 to %u, 1 and more)", o->name,
                        o->window, o->window_bytes, UINT32_MAX);
    sem_status status = check_fields(o, err);
    return status == SEM_OK ? check_columns(o, err) : status;
}
