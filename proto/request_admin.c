/* The model and the house: ping, auth, info, encode, collection.*, finetune, job,
 * generations, rollback, model.load, backup, index.export, watch. */
#include "proto/fields.h"

#include <string.h>

enum {
    DIM_MAX = 65536,              /* of client vectors: 256 KiB each, beyond any model's width */
    PASSAGE_TOKENS_MAX = 1 << 20, /* beyond any model's limit, which is the daemon's to compare with */
    PATH_MAX_BYTES = 4095,
    BACKUP_NAME_BYTES = 128,
    RANK_WEIGHT_MAX = 1000 /* of a ranking in a hybrid search: what counts is the ratio of the two */
};

/* --- without arguments */

const method_form FORM_PING = {.name = "ping", .table = {.more = &DEADLINE_FIELDS}};
const method_form FORM_INFO = {.name = "info", .table = {.more = &DEADLINE_FIELDS}};
const method_form FORM_COLLECTION_LIST = {.name = "collection.list", .table = {.more = &DEADLINE_FIELDS}};
const method_form FORM_GENERATIONS = {.name = "generations", .table = {.more = &DEADLINE_FIELDS}};

/* --- auth */

static const field AUTH_FIELDS[] = {
    {"token", read_string, offsetof(request, u.auth.token), 0, true},
};

const method_form FORM_AUTH = {
    .name = "auth",
    .table = {AUTH_FIELDS, sizeof AUTH_FIELDS / sizeof *AUTH_FIELDS, &DEADLINE_FIELDS, false},
};

/* --- encode */

static sem_status read_texts(parser *p, void *target, sem_error *err)
{
    request *r = target;
    value_head array;
    sem_status status = expect(p, VALUE_ARRAY, "an array of str", &array, err);
    if (status != SEM_OK)
        return status;
    if (array.number == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must hold one text at least");
    if (array.number > p->limits->max_batch)
        return fail_limit(err, array.number, "texts", p->limits->max_batch, "limits.max_batch");
    r->u.encode.texts = arena_array(p, (size_t)array.number, sizeof *r->u.encode.texts);
    if (r->u.encode.texts == NULL)
        return sem_fail_memory(err, "texts");
    r->u.encode.count = (size_t)array.number;
    for (size_t i = 0; i < array.number; i++)
        if (read_text(p, &r->u.encode.texts[i], err) != SEM_OK)
            return sem_error_prefix(err, "[%zu]", i);
    return SEM_OK;
}

static sem_status read_encoding(parser *p, void *target, sem_error *err)
{
    static const char *const encodings[] = {"bin", "array", NULL};
    size_t choice;
    sem_status status = read_choice(p, encodings, &choice, err);
    if (status == SEM_OK)
        *(bool *)target = choice == 1;
    return status;
}

static sem_status read_precision(parser *p, void *target, sem_error *err)
{
    static const char *const precisions[] = {"float32", "int8", "binary", NULL};
    size_t choice;
    sem_status status = read_choice(p, precisions, &choice, err);
    if (status == SEM_OK)
        *(encode_precision *)target = (encode_precision)choice;
    return status;
}

static void encode_defaults(request *r)
{
    r->u.encode.truncate = true;
}

static const field ENCODE_FIELDS[] = {
    {"texts", read_texts, 0, 0, true},
    {"prompt", read_word, offsetof(request, u.encode.prompt), 0, false},
    {"truncate", read_bool, offsetof(request, u.encode.truncate), 0, false},
    {"encoding", read_encoding, offsetof(request, u.encode.as_array), 0, false},
    {"precision", read_precision, offsetof(request, u.encode.precision), 0, false},
};

const method_form FORM_ENCODE = {
    .name = "encode",
    .table = {ENCODE_FIELDS, sizeof ENCODE_FIELDS / sizeof *ENCODE_FIELDS, &DEADLINE_FIELDS, false},
    .defaults = encode_defaults,
};

/* --- collections */

static sem_status read_uint32(parser *p, uint32_t low, uint32_t high, uint32_t *out, sem_error *err)
{
    uint64_t value;
    sem_status status = read_range(p, low, high, &value, err);
    if (status == SEM_OK)
        *out = (uint32_t)value;
    return status;
}

static sem_status read_passage_tokens(parser *p, void *target, sem_error *err)
{
    return read_uint32(p, 1, PASSAGE_TOKENS_MAX, target, err);
}

static sem_status read_passage_overlap(parser *p, void *target, sem_error *err)
{
    return read_uint32(p, 0, PASSAGE_TOKENS_MAX, target, err);
}

static sem_status read_metric(parser *p, void *target, sem_error *err)
{
    static const char *const metrics[] = {"cosine", "dot", NULL};
    size_t choice;
    sem_status status = read_choice(p, metrics, &choice, err);
    if (status == SEM_OK)
        *(bool *)target = choice == 1;
    return status;
}

static sem_status read_vectors(parser *p, void *target, sem_error *err)
{
    static const char *const sources[] = {"model", "external", NULL};
    size_t choice;
    sem_status status = read_choice(p, sources, &choice, err);
    if (status == SEM_OK)
        *(bool *)target = choice == 1;
    return status;
}

static sem_status read_dim(parser *p, void *target, sem_error *err)
{
    return read_uint32(p, 1, DIM_MAX, target, err);
}

static sem_status read_rank_weight(parser *p, void *target, sem_error *err)
{
    return read_number(p, 0, RANK_WEIGHT_MAX, target, err);
}

static const field OPTION_FIELDS[] = {
    {"passage_tokens", read_passage_tokens, offsetof(request, u.create.passage_tokens), 0, false},
    {"passage_overlap", read_passage_overlap, offsetof(request, u.create.passage_overlap), 0, false},
    {"lexical", read_bool, offsetof(request, u.create.lexical), 0, false},
    {"weight_dense", read_rank_weight, offsetof(request, u.create.weight_dense), 0, false},
    {"weight_lexical", read_rank_weight, offsetof(request, u.create.weight_lexical), 0, false},
    {"metric", read_metric, offsetof(request, u.create.dot), 0, false},
    {"vectors", read_vectors, offsetof(request, u.create.external), 0, false},
    {"dim", read_dim, offsetof(request, u.create.dim), 0, false},
};
static const field_table OPTION_TABLE = {OPTION_FIELDS, sizeof OPTION_FIELDS / sizeof *OPTION_FIELDS, NULL, true};

static sem_status read_options(parser *p, void *target, sem_error *err)
{
    return fields_read(p, &OPTION_TABLE, target, err);
}

static void create_defaults(request *r)
{
    r->u.create.lexical = true;
    r->u.create.weight_dense = r->u.create.weight_lexical = 1;
}

static sem_status check_passages(const request *r, sem_error *err)
{
    uint32_t tokens = r->u.create.passage_tokens, overlap = r->u.create.passage_overlap;
    if (tokens > 0 && r->u.create.external)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "options.passage_tokens: goes only with options.vectors \"model\"; a document with an external "
                        "vector has that one, so put each passage as a document");
    if (tokens == 0 && overlap > 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "options.passage_overlap: goes only with options.passage_tokens");
    if (tokens > 0 && overlap >= tokens)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "options.passage_overlap: must be below options.passage_tokens, %u, found %u", tokens, overlap);
    return SEM_OK;
}

static sem_status check_create(parser *p, request *r, sem_error *err)
{
    (void)p;
    if (r->u.create.weight_dense == 0 && r->u.create.weight_lexical == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "options.weight_dense, options.weight_lexical: one of the two must be above 0");
    if (r->u.create.external && r->u.create.dim == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "options.dim: required where options.vectors is \"external\"");
    if (!r->u.create.external && r->u.create.dim != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "options.dim: goes only with options.vectors \"external\"");
    return check_passages(r, err);
}

static const field CREATE_FIELDS[] = {
    {"name", read_name, offsetof(request, collection), offsetof(request, has_collection), true},
    {"options", read_options, 0, 0, false},
};

const method_form FORM_COLLECTION_CREATE = {
    .name = "collection.create",
    .table = {CREATE_FIELDS, sizeof CREATE_FIELDS / sizeof *CREATE_FIELDS, &DEADLINE_FIELDS, false},
    .defaults = create_defaults,
    .check = check_create,
};

const method_form FORM_COLLECTION_DROP = {
    .name = "collection.drop", .table = {CREATE_FIELDS, 1, &DEADLINE_FIELDS, false}, /* only the name */
};

/* --- learning and generations */

static sem_status read_finetune_mode(parser *p, void *target, sem_error *err)
{
    static const char *const modes[] = {"full", "query", "auto", NULL};
    size_t choice;
    value_cursor start = p->at;
    sem_status status = read_choice(p, modes, &choice, err);
    if (status != SEM_OK)
        return status;
    p->at = start;
    return read_string(p, target, err);
}

static const field FINETUNE_FIELDS[] = {
    {"mode", read_finetune_mode, offsetof(request, u.finetune.mode), 0, false},
    {"wait", read_bool, offsetof(request, u.finetune.wait), 0, false},
};

const method_form FORM_FINETUNE = {
    .name = "finetune",
    .table = {FINETUNE_FIELDS, sizeof FINETUNE_FIELDS / sizeof *FINETUNE_FIELDS, &COLLECTION_FIELDS, false},
};

static const field JOB_FIELDS[] = {
    {"job", read_positive, offsetof(request, u.job.job), offsetof(request, u.job.has_job), false},
    {"cancel", read_bool, offsetof(request, u.job.cancel), 0, false},
};

const method_form FORM_JOB = {
    .name = "job",
    .table = {JOB_FIELDS, sizeof JOB_FIELDS / sizeof *JOB_FIELDS, &DEADLINE_FIELDS, false},
};

static const field ROLLBACK_FIELDS[] = {
    {"generation", read_positive, offsetof(request, u.rollback.generation),
     offsetof(request, u.rollback.has_generation), false},
};

const method_form FORM_ROLLBACK = {
    .name = "rollback",
    .table = {ROLLBACK_FIELDS, sizeof ROLLBACK_FIELDS / sizeof *ROLLBACK_FIELDS, &DEADLINE_FIELDS, false},
};

static sem_status read_path(parser *p, void *target, sem_error *err)
{
    span *path = target;
    sem_status status = read_word(p, path, err);
    if (status == SEM_OK && path->size > PATH_MAX_BYTES)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu bytes, at most %d", path->size, PATH_MAX_BYTES);
    return status;
}

static void load_defaults(request *r)
{
    r->u.model_load.gate = true;
}

static const field LOAD_FIELDS[] = {
    {"path", read_path, offsetof(request, u.model_load.path), 0, true},
    {"gate", read_bool, offsetof(request, u.model_load.gate), 0, false},
};

const method_form FORM_MODEL_LOAD = {
    .name = "model.load",
    .table = {LOAD_FIELDS, sizeof LOAD_FIELDS / sizeof *LOAD_FIELDS, &DEADLINE_FIELDS, false},
    .defaults = load_defaults,
};

/* --- backup */

/* A name of a folder and nothing else. */
static sem_status read_backup_name(parser *p, void *target, sem_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    span *name = target;
    sem_status status = read_string(p, name, err);
    if (status != SEM_OK)
        return status;
    bool right = name->size >= 1 && name->size <= BACKUP_NAME_BYTES && !span_is(name, ".") && !span_is(name, "..");
    for (size_t i = 0; right && i < name->size; i++)
        right = name->data[i] != '\0' && strchr(letters, name->data[i]) != NULL;
    if (right)
        return SEM_OK;
    char text[QUOTED_MAX];
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "must be 1 to %d characters out of A-Z, a-z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\", "
                    "found \"%s\"",
                    BACKUP_NAME_BYTES, quoted(text, name->data, name->size));
}

static const field BACKUP_FIELDS[] = {
    {"name", read_backup_name, offsetof(request, u.backup.name), 0, true},
};

const method_form FORM_BACKUP = {
    .name = "backup",
    .table = {BACKUP_FIELDS, sizeof BACKUP_FIELDS / sizeof *BACKUP_FIELDS, &DEADLINE_FIELDS, false},
};

/* --- index.export */

static const field EXPORT_FIELDS[] = {
    {"path", read_path, offsetof(request, u.index_export.path), 0, true},
};

const method_form FORM_INDEX_EXPORT = {
    .name = "index.export",
    .table = {EXPORT_FIELDS, sizeof EXPORT_FIELDS / sizeof *EXPORT_FIELDS, &COLLECTION_FIELDS, false},
};

/* --- watch */

static sem_status read_topics(parser *p, void *target, sem_error *err)
{
    static const char *const topics[] = {"generation", "job", NULL}; /* TOPIC_ bits, in this order */
    return read_words(p, topics, target, err);
}

static const field WATCH_FIELDS[] = {
    {"topics", read_topics, offsetof(request, u.watch.topics), 0, true},
};

const method_form FORM_WATCH = {
    .name = "watch",
    .table = {WATCH_FIELDS, sizeof WATCH_FIELDS / sizeof *WATCH_FIELDS, &DEADLINE_FIELDS, false},
};
