#include "model/tokenizer.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/files.h"
#include "model/added_tokens.h"
#include "model/bert_text.h"
#include "model/json.h"
#include "model/template.h"
#include "model/text_pipeline.h"
#include "model/token_model.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENIZER_FILE_MAX = 256 << 20 }; /* bytes; the largest in use (250,000 tokens) have 17 MiB */

struct tokenizer {
    token_model model;
    added_tokens added;
    token_template around;
    char **names; /* [vocab]: the token of each id, owned; NULL where there is none */
    size_t vocab;
};

/* --- batches */

void token_batch_clear(token_batch *batch)
{
    batch->tokens = 0;
    batch->texts = 0;
}

void token_batch_free(token_batch *batch)
{
    free(batch->ids);
    free(batch->lengths);
    if (batch->scratch != NULL)
        text_scratch_free(batch->scratch);
    free(batch->scratch);
    *batch = (token_batch){0};
}

static bool have_scratch(token_batch *batch)
{
    if (batch->scratch == NULL)
        batch->scratch = calloc(1, sizeof *batch->scratch);
    return batch->scratch != NULL;
}

char *token_batch_room(token_batch *batch, size_t bytes)
{
    return have_scratch(batch) ? text_scratch_room(batch->scratch, TEXT_JOINED, bytes) : NULL;
}

static bool reserve_text(token_batch *batch)
{
    if (batch->texts < batch->lengths_capacity)
        return true;
    size_t capacity = batch->lengths_capacity * 2 + 16;
    uint32_t *lengths = checked_realloc(batch->lengths, capacity, sizeof *lengths);
    if (lengths == NULL)
        return false;
    batch->lengths = lengths;
    batch->lengths_capacity = capacity;
    return true;
}

static token_sink open_sink(token_batch *batch, size_t limit)
{
    return (token_sink){batch->ids, batch->ids_capacity, batch->tokens, 0, limit, batch->scratch};
}

/* Gives the memory back to the batch, whether or not the text is kept. */
static void close_sink(token_batch *batch, const token_sink *sink)
{
    batch->ids = sink->ids;
    batch->ids_capacity = sink->capacity;
}

static void commit_text(token_batch *batch, size_t tokens)
{
    batch->lengths[batch->texts++] = (uint32_t)tokens;
    batch->tokens += tokens;
}

bool token_batch_append(token_batch *batch, const int32_t *ids, size_t count)
{
    if (count > UINT32_MAX || !reserve_text(batch))
        return false;
    token_sink sink = open_sink(batch, count);
    bool ok = token_sink_reserve(&sink, count);
    close_sink(batch, &sink);
    if (!ok)
        return false;
    if (count > 0)
        memcpy(batch->ids + batch->tokens, ids, count * sizeof *ids);
    commit_text(batch, count);
    return true;
}

/* --- reading tokenizer.json */

/* Remembers the token of an id and checks that the model has a row for it. */
static sem_status name_token(tokenizer *t, const char *where, const char *text, const json_t *id, sem_error *err)
{
    if (!json_is_integer(id))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the id of token \"%.64s\" is %s, expected an integer", where,
                        text, json_type_name(id));
    json_int_t number = json_integer_value(id);
    if (number < 0 || (uint64_t)number >= t->vocab)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: token \"%.64s\" has id %lld, but the model's token table has %zu rows", where, text,
                        (long long)number, t->vocab);
    char *copy = strdup(text);
    if (copy == NULL)
        return sem_fail_memory(err, "the vocabulary");
    free(t->names[number]);
    t->names[number] = copy;
    return SEM_OK;
}

/* A list of [piece, score]: the place is the id. */
static sem_status name_list(tokenizer *t, const json_t *vocab, const char *where, sem_error *err)
{
    if (json_array_size(vocab) > t->vocab)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: model.vocab has %zu tokens, but the model's token table has %zu rows", where,
                        json_array_size(vocab), t->vocab);
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const char *text = json_string_value(json_array_get(json_array_get(vocab, i), 0));
        if (text == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.vocab[%zu] is no [piece, score]", where, i);
        t->names[i] = strdup(text);
        if (t->names[i] == NULL)
            return sem_fail_memory(err, "the vocabulary");
    }
    return SEM_OK;
}

static sem_status name_vocabulary(tokenizer *t, const json_t *vocab, bool list, const char *where, sem_error *err)
{
    if (list ? !json_is_array(vocab) : !json_is_object(vocab))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.vocab is %s, expected an %s", where,
                        json_type_name(vocab), list ? "array" : "object");
    if (list)
        return name_list(t, vocab, where, err);
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)vocab, text, id)
    {
        sem_status status = name_token(t, where, text, id, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* An added token that is in the vocabulary too must have the same id there, and
 * a new one an id of its own: the reference would silently take other ids than
 * the file's. */
static sem_status check_added(const tokenizer *t, const json_t *vocab, const char *where, const char *content,
                              json_int_t id, sem_error *err)
{
    const json_t *known = json_object_get(vocab, content);
    if (known != NULL && json_integer_value(known) != id)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: added token \"%.64s\" has id %lld, expected %lld as in model.vocab", where, content,
                        (long long)id, (long long)json_integer_value(known));
    const char *name = id >= 0 && (uint64_t)id < t->vocab ? t->names[id] : NULL;
    if (name != NULL && strcmp(name, content) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: added token \"%.64s\" has id %lld, which belongs to \"%.64s\"",
                        where, content, (long long)id, name);
    return SEM_OK;
}

/* array has been read by added_tokens_create. */
static sem_status name_added(tokenizer *t, const json_t *array, const json_t *vocab, const char *where, sem_error *err)
{
    size_t i;
    json_t *token;
    json_array_foreach((json_t *)array, i, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));
        const json_t *id = json_object_get(token, "id");
        sem_status status = check_added(t, vocab, where, content, json_integer_value(id), err);
        if (status == SEM_OK)
            status = name_token(t, where, content, id, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

typedef struct token_kind {
    const char *type;
    bool vocab_is_list; /* of [piece, score], not an object from token to id */
} token_kind;

static const token_kind KINDS[] = {{"WordPiece", false}, {"BPE", false}, {"Unigram", true}};

static const token_kind *find_kind(const char *type)
{
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (strcmp(KINDS[i].type, type) == 0)
            return &KINDS[i];
    return NULL;
}

/* Files written before the type was a key are told by what they hold. */
static const char *model_type(const json_t *model)
{
    const json_t *type = json_object_get(model, "type");
    if (json_is_string(type))
        return json_string_value(type);
    if (json_object_get(model, "merges") != NULL)
        return "BPE";
    if (json_object_get(model, "max_input_chars_per_word") != NULL)
        return "WordPiece";
    if (json_is_array(json_object_get(model, "vocab")))
        return "Unigram";
    return "of unknown type";
}

static sem_status read_root(tokenizer *t, const json_t *root, const char *where, sem_error *err)
{
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model is %s, expected an object", where, json_type_name(model));
    const token_kind *kind = find_kind(model_type(model));
    if (kind == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: a tokenizer %s is not supported; WordPiece, BPE and Unigram are", where,
                        model_type(model));
    const json_t *added = json_object_get(root, "added_tokens");
    sem_status status = name_vocabulary(t, json_object_get(model, "vocab"), kind->vocab_is_list, where, err);
    if (status == SEM_OK && strcmp(kind->type, "WordPiece") == 0 && bert_text_fits(root))
        status = bert_text_create(&t->model, root, where, err);
    else if (status == SEM_OK)
        status = text_pipeline_create(&t->model, root, kind->type, where, err);
    if (status == SEM_OK)
        status = added_tokens_create(&t->added, added, where, &t->model, err);
    if (status == SEM_OK)
        status = name_added(t, added, json_object_get(model, "vocab"), where, err);
    if (status == SEM_OK)
        status = token_template_read(&t->around, json_object_get(root, "post_processor"), where, t->vocab, err);
    return status;
}

sem_status tokenizer_open(tokenizer **out, const char *dir, size_t vocab, sem_error *err)
{
    if (vocab == 0 || vocab > INT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a token table of %zu rows; expected 1 to %d", vocab, INT32_MAX);
    char path[FILES_PATH_MAX];
    json_t *root;
    sem_status status = files_join(path, err, "%s/tokenizer.json", dir);
    if (status == SEM_OK)
        status = json_load_path(&root, path, TOKENIZER_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    tokenizer *t = calloc(1, sizeof *t);
    if (t != NULL) {
        t->vocab = vocab;
        t->names = calloc(vocab + 1, sizeof *t->names);
    }
    if (t == NULL || t->names == NULL)
        status = sem_fail_memory(err, "a tokenizer");
    else
        status = read_root(t, root, path, err);
    json_decref(root);
    if (status != SEM_OK) {
        tokenizer_close(t);
        return status;
    }
    *out = t;
    return SEM_OK;
}

void tokenizer_close(tokenizer *t)
{
    if (t == NULL)
        return;
    if (t->model.destroy != NULL)
        t->model.destroy(t->model.state);
    added_tokens_free(&t->added);
    for (size_t i = 0; t->names != NULL && i < t->vocab; i++)
        free(t->names[i]);
    free(t->names);
    free(t);
}

const char *tokenizer_token(const tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab ? t->names[id] : NULL;
}

/* --- encoding */

static sem_status put_added(token_sink *sink, int32_t id, sem_error *err)
{
    if (!token_sink_reserve(sink, 1))
        return sem_fail_memory(err, "the tokens of a text");
    token_sink_put(sink, id);
    return SEM_OK;
}

/* Plain text in which normalized added tokens may hide. */
static sem_status encode_two_steps(const tokenizer *t, const char *text, size_t length, bool first, token_sink *sink,
                                   sem_error *err)
{
    buffer *normal = text_scratch_empty(sink->scratch, TEXT_NORMAL);
    sem_status status = t->model.normalize(t->model.state, text, length, sink->scratch, normal, &first, err);
    added_scan scan = {0, 0};
    added_piece piece;
    const char *data = (const char *)normal->data;
    while (status == SEM_OK && !token_sink_full(sink) &&
           added_tokens_next(&t->added, true, data, normal->size, &scan, &piece)) {
        if (piece.to > piece.from)
            status = t->model.encode_normalized(t->model.state, data + piece.from, piece.to - piece.from,
                                                first && piece.from == 0, sink, err);
        if (status == SEM_OK && piece.id >= 0)
            status = put_added(sink, piece.id, err);
    }
    return status;
}

static sem_status encode_text(const tokenizer *t, const char *text, size_t length, token_sink *sink, sem_error *err)
{
    sem_status status = SEM_OK;
    added_scan scan = {0, 0};
    added_piece piece;
    while (status == SEM_OK && !token_sink_full(sink) &&
           added_tokens_next(&t->added, false, text, length, &scan, &piece)) {
        const char *plain = text + piece.from;
        size_t size = piece.to - piece.from;
        if (size > 0 && t->added.any_normalized)
            status = encode_two_steps(t, plain, size, piece.from == 0, sink, err);
        else if (size > 0)
            status = t->model.encode(t->model.state, plain, size, piece.from == 0, sink, err);
        if (status == SEM_OK && piece.id >= 0)
            status = put_added(sink, piece.id, err);
    }
    return status;
}

static sem_status encode_into(const tokenizer *t, const char *text, size_t length, token_sink *sink, bool *cut,
                              sem_error *err)
{
    const token_template *around = &t->around;
    if (!token_sink_reserve(sink, around->before_count))
        return sem_fail_memory(err, "the tokens of a text");
    for (size_t i = 0; i < around->before_count; i++)
        token_sink_put(sink, around->before[i]);
    sink->limit -= around->after_count;
    sem_status status = encode_text(t, text, length, sink, err);
    if (status != SEM_OK)
        return status;
    *cut = token_sink_full(sink);
    if (*cut)
        sink->count = sink->limit;
    sink->limit += around->after_count;
    if (!token_sink_reserve(sink, around->after_count))
        return sem_fail_memory(err, "the tokens of a text");
    for (size_t i = 0; i < around->after_count; i++)
        token_sink_put(sink, around->after[i]);
    return SEM_OK;
}

sem_status tokenizer_encode(const tokenizer *t, const char *text, size_t length, size_t max_tokens, token_batch *batch,
                            bool *truncated, sem_error *err)
{
    size_t special = t->around.before_count + t->around.after_count;
    if (max_tokens < special)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "at most %zu tokens a text were asked for, %zu special ones are needed", max_tokens, special);
    if (!have_scratch(batch) || !reserve_text(batch))
        return sem_fail_memory(err, "a batch of texts");
    token_sink sink = open_sink(batch, max_tokens < UINT32_MAX ? max_tokens : UINT32_MAX);
    bool cut = false;
    sem_status status = encode_into(t, text, length, &sink, &cut, err);
    close_sink(batch, &sink);
    text_scratch_trim(batch->scratch);
    if (status != SEM_OK)
        return status;
    commit_text(batch, sink.count);
    if (truncated != NULL)
        *truncated = cut;
    return SEM_OK;
}

sem_status tokenizer_normalize(const tokenizer *t, const char *text, size_t length, buffer *out, sem_error *err)
{
    text_scratch scratch = {.marks = {.marks = NULL}};
    bool first = true;
    sem_status status = t->model.normalize(t->model.state, text, length, &scratch, out, &first, err);
    text_scratch_free(&scratch);
    return status;
}
