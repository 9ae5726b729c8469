/* encode, search, click, feedback. */
#include "proto/number.h"
#include "tools/semctl_batches.h"
#include "tools/semctl_lines.h"
#include "tools/semctl_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SNIPPET_COLUMNS = 72, SHOWN_NUMBERS = 4, FEEDBACK_BATCH = 500 };

/* --- encode */

static void print_embeddings(const client_reply *reply)
{
    const msgpack_object *list = object_get(&reply->value, "embeddings");
    const msgpack_object *tokens = object_get(&reply->value, "tokens");
    printf("generation %" PRIu64 ", %" PRIu64 " dimensions\n", object_uint(object_get(&reply->value, "generation"), 0),
           object_uint(object_get(&reply->value, "dim"), 0));
    for (uint32_t i = 0; list != NULL && list->type == MSGPACK_OBJECT_ARRAY && i < list->via.array.size; i++) {
        const msgpack_object *e = &list->via.array.ptr[i];
        bool counted = tokens != NULL && tokens->type == MSGPACK_OBJECT_ARRAY && i < tokens->via.array.size;
        printf("%" PRIu64 " tokens  [", counted ? object_uint(&tokens->via.array.ptr[i], 0) : 0);
        size_t size = e->type == MSGPACK_OBJECT_BIN ? e->via.bin.size : 0;
        for (size_t n = 0; n < SHOWN_NUMBERS && 4 * n + 4 <= size; n++) {
            float value;
            memcpy(&value, e->via.bin.ptr + 4 * n, sizeof value); /* the wire and every platform here: little-endian */
            printf("%s%.4f", n > 0 ? ", " : "", (double)value);
        }
        printf(", ...]\n");
    }
    printf("(--json prints all of it)\n");
}

static void pack_texts(packer *p, const arguments *a, const char *content, size_t size)
{
    size_t count = a->count, length;
    const char *line, *at = content;
    while (content != NULL && lines_next(&at, content + size, &line, &length))
        count++;
    pack_array(p, count);
    for (size_t i = 0; i < a->count; i++)
        pack_str(p, a->words[i]);
    at = content;
    while (content != NULL && lines_next(&at, content + size, &line, &length))
        pack_strn(p, line, length);
}

sem_status run_encode(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    const char *file = argument_of(c, a, "file"), *precision = argument_of(c, a, "precision");
    const char *encoding = argument_of(c, a, "encoding");
    if ((file != NULL) == (a->count > 0))
        return ctl_usage(ctl, err, "give either texts or --file; try semctl encode --help");
    buffer content = {0};
    sem_status status = file != NULL ? lines_read(file, &content, err) : SEM_OK;
    params m;
    client_reply reply;
    params_begin(&m);
    if (status == SEM_OK)
        status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK)
        pack_texts(params_key(&m, "texts"), a, (const char *)content.data, content.size);
    buffer_free(&content);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    bool plain = precision == NULL || strcmp(precision, "float32") == 0;
    bool bins = encoding == NULL || strcmp(encoding, "bin") == 0;
    if (ctl->json || !plain || !bins)
        ctl_print_json(&reply, plain ? BIN_FLOAT32 : strcmp(precision, "int8") == 0 ? BIN_INT8 : BIN_UINT8);
    else
        print_embeddings(&reply);
    client_reply_free(&reply);
    return SEM_OK;
}

/* --- search */

/* A string as it stands, anything else as JSON. */
static void add_part(table *t, const msgpack_object *part)
{
    char *json = NULL;
    size_t size = 0;
    FILE *out;
    if (part != NULL && part->type == MSGPACK_OBJECT_STR) {
        table_add_text(t, part->via.str.ptr, part->via.str.size, SNIPPET_COLUMNS);
        return;
    }
    if (part == NULL || (out = open_memstream(&json, &size)) == NULL) {
        table_add(t, "%s", "");
        return;
    }
    convert_write(out, part, BIN_FLOAT32);
    t->failed = fclose(out) != 0 || t->failed;
    table_add_text(t, json, size, SNIPPET_COLUMNS);
    free(json);
}

/* Of a hit's text what its passage has, where it names one. */
static void add_text(table *t, const msgpack_object *hit)
{
    const msgpack_object *text = object_get(hit, "text"), *passage = object_get(hit, "passage");
    bool named = passage != NULL && passage->type == MSGPACK_OBJECT_ARRAY && passage->via.array.size == 2;
    if (!named || text == NULL || text->type != MSGPACK_OBJECT_STR) {
        add_part(t, text);
        return;
    }
    uint64_t from = object_uint(&passage->via.array.ptr[0], 0), to = object_uint(&passage->via.array.ptr[1], 0);
    bool inside = from <= to && to <= text->via.str.size;
    table_add_text(t, text->via.str.ptr + (inside ? from : 0), inside ? (size_t)(to - from) : text->via.str.size,
                   SNIPPET_COLUMNS);
}

static void add_id(table *t, const msgpack_object *id)
{
    char *text = ctl_id_text(id);
    t->failed = text == NULL || t->failed;
    table_add_text(t, text != NULL ? text : "", text != NULL ? strlen(text) : 0, SNIPPET_COLUMNS);
    free(text);
}

/* Beside the score and the id, the parts that the hits came with; of a text, the passage
 * that was found. */
static bool print_hits(const msgpack_object *hits)
{
    enum { FIXED = 3 };
    static const char *const parts[] = {"text", "meta", "vector"};
    const char *headers[FIXED + 3] = {"", "score", "id"};
    size_t columns = FIXED;
    const msgpack_object *first = hits->via.array.size > 0 ? hits->via.array.ptr : NULL;
    for (size_t i = 0; first != NULL && i < sizeof parts / sizeof *parts; i++)
        if (object_get(first, parts[i]) != NULL)
            headers[columns++] = parts[i];
    table t;
    table_init(&t, headers, columns, 1U << 0 | 1U << 1);
    for (uint32_t i = 0; i < hits->via.array.size; i++) {
        const msgpack_object *hit = &hits->via.array.ptr[i];
        table_add(&t, "%u", i + 1);
        table_add(&t, "%.4f", object_double(object_get(hit, "score"), 0));
        add_id(&t, object_get(hit, "id"));
        for (size_t c = FIXED; c < columns; c++) {
            if (strcmp(headers[c], "text") == 0)
                add_text(&t, hit);
            else
                add_part(&t, object_get(hit, headers[c]));
        }
    }
    bool printed = table_print(&t, stdout);
    table_free(&t);
    return printed;
}

static sem_status show_search(const client_reply *reply, double seconds, sem_error *err)
{
    const msgpack_object *hits = object_get(&reply->value, "hits");
    if (hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY)
        return sem_fail(err, SEM_INTERNAL, "the answer has no hits");
    if (!print_hits(hits))
        return sem_fail_memory(err, "a table");
    char took[TEXT_MAX];
    char *query_id = ctl_text(&reply->value, "query_id");
    printf("%u %s in %s, generation %" PRIu64 "\n", hits->via.array.size, hits->via.array.size == 1 ? "hit" : "hits",
           text_duration(took, seconds), object_uint(object_get(&reply->value, "generation"), 0));
    if (query_id != NULL && query_id[0] != '\0')
        printf("query %s\n", query_id);
    free(query_id);
    return SEM_OK;
}

/* Sends what search and explain take; *seconds is how long the answer took. */
static sem_status call_search(semctl *ctl, const command *c, const arguments *a, client_reply *reply, double *seconds,
                              sem_error *err)
{
    bool other = argument_of(c, a, "like") != NULL || argument_of(c, a, "vector") != NULL;
    if (a->count + (argument_of(c, a, "like") != NULL) + (argument_of(c, a, "vector") != NULL) != 1)
        return ctl_usage(ctl, err, "give one QUERY (in quotes), --like or --vector; try semctl %s --help", c->name);
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    if (!other)
        pack_str(params_key(&m, "query"), a->words[0]);
    if (argument_of(c, a, "with") == NULL && !ctl->json) { /* people want to see what was found */
        packer *p = params_key(&m, "with");
        pack_array(p, 1);
        pack_str(p, "text");
    }
    status = ctl_connect(ctl, err); /* so that the time shown is the search's own */
    progress clock;
    progress_begin(&clock);
    if (status == SEM_OK)
        status = ctl_call(ctl, c->method, &m, reply, err);
    else
        params_free(&m);
    *seconds = progress_seconds(&clock);
    return status;
}

sem_status run_search(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    double seconds;
    sem_status status = call_search(ctl, c, a, &reply, &seconds, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        status = show_search(&reply, seconds, err);
    client_reply_free(&reply);
    return status;
}

/* --- explain */

/* The tokens as one line, as the vocabulary writes them. */
static bool add_tokens(table *t, const msgpack_object *tokens)
{
    buffer line = {0};
    bool fine = true;
    for (uint32_t i = 0; fine && i < tokens->via.array.size; i++) {
        const msgpack_object *token = object_get(&tokens->via.array.ptr[i], "token");
        fine = (i == 0 || buffer_append(&line, " ", 1)) && token != NULL && token->type == MSGPACK_OBJECT_STR &&
               buffer_append(&line, token->via.str.ptr, token->via.str.size);
    }
    table_add(t, "tokens");
    table_add(t, "%u", tokens->via.array.size);
    table_add_text(t, line.size > 0 ? (const char *)line.data : "", line.size, SNIPPET_COLUMNS);
    buffer_free(&line);
    return fine;
}

static void add_count(table *t, const char *name, const msgpack_object *value, const char *format,
                      const msgpack_object *of)
{
    char number[NUMBER_TEXT_MAX], whole[NUMBER_TEXT_MAX], note[TEXT_MAX + NUMBER_TEXT_MAX];
    table_add(t, "%s", name);
    table_add(t, "%s", number_text(number, object_uint(value, 0)));
    snprintf(note, sizeof note, "%s %s", format, of != NULL ? number_text(whole, object_uint(of, 0)) : "");
    table_add(t, "%s", note);
}

static bool print_plan(const msgpack_object *answer)
{
    static const char *const headers[] = {"", "", ""};
    const msgpack_object *plan = object_get(answer, "plan"), *tokens = object_get(answer, "tokens");
    const msgpack_object *matching = object_get(plan, "matching");
    char *kind = ctl_text(plan, "kind"), *reason = ctl_text(plan, "reason"), *prompt = ctl_text(plan, "prompt");
    table t;
    table_init(&t, headers, 3, 1U << 1);
    bool fine = kind != NULL && reason != NULL && prompt != NULL && tokens != NULL &&
                tokens->type == MSGPACK_OBJECT_ARRAY && (tokens->via.array.size == 0 || add_tokens(&t, tokens));
    if (fine) {
        if (prompt[0] != '\0') {
            table_add(&t, "prompt");
            table_add(&t, "%s", "");
            table_add(&t, "%s", prompt);
        }
        table_add(&t, "plan");
        table_add(&t, "%s", kind);
        table_add(&t, "%s", reason);
        add_count(&t, "lists", object_get(answer, "lists"), "of", object_get(plan, "nlist"));
        if (matching != NULL)
            add_count(&t, "filter", matching, "match, of", object_get(plan, "documents"));
        add_count(&t, "scanned", object_get(answer, "scanned"), "of", object_get(plan, "documents"));
        add_count(&t, "candidates", object_get(answer, "candidates"), "for the final order", NULL);
        fine = table_print(&t, stdout);
    }
    table_free(&t);
    free(kind);
    free(reason);
    free(prompt);
    return fine;
}

static bool print_timings(const msgpack_object *timings)
{
    static const char *const headers[] = {"step", "us", "share"};
    double total = object_double(object_get(timings, "total"), 0);
    table t;
    table_init(&t, headers, 3, 1U << 1 | 1U << 2);
    for (uint32_t i = 0; i < timings->via.map.size; i++) {
        const msgpack_object *name = &timings->via.map.ptr[i].key;
        double us = object_double(&timings->via.map.ptr[i].val, 0);
        if (name->type != MSGPACK_OBJECT_STR)
            continue;
        table_add_text(&t, name->via.str.ptr, name->via.str.size, SNIPPET_COLUMNS);
        table_add(&t, "%.1f", us);
        table_add(&t, "%.1f%%", total > 0 ? 100 * us / total : 0);
    }
    bool fine = table_print(&t, stdout);
    table_free(&t);
    return fine;
}

sem_status run_explain(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    double seconds;
    sem_status status = call_search(ctl, c, a, &reply, &seconds, err);
    if (status != SEM_OK)
        return status;
    const msgpack_object *timings = object_get(&reply.value, "timings_us");
    if (ctl->json) {
        ctl_print_json(&reply, BIN_FLOAT32);
    } else if (timings == NULL || timings->type != MSGPACK_OBJECT_MAP) {
        status = sem_fail(err, SEM_INTERNAL, "the answer has no timings");
    } else if (!print_plan(&reply.value) || puts("") < 0 || !print_timings(timings) || puts("") < 0) {
        status = sem_fail_memory(err, "a table");
    } else {
        status = show_search(&reply, seconds, err);
    }
    client_reply_free(&reply);
    return status;
}

/* --- click and feedback */

sem_status run_click(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    client_reply reply;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    pack_str(params_key(&m, "query_id"), a->words[0]);
    if (status == SEM_OK)
        status = pack_id_text(params_key(&m, "id"), a->words[1], err);
    if (status != SEM_OK) {
        params_free(&m);
        ctl->usage = true;
        return status;
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        puts("logged");
    client_reply_free(&reply);
    return SEM_OK;
}

/* Adds to the number of pairs that were logged. */
static sem_status add_logged(void *context, const client_reply *reply, sem_error *err)
{
    uint64_t *logged = context;
    (void)err;
    *logged += object_uint(object_get(&reply->value, "logged"), 0);
    return SEM_OK;
}

static sem_status feedback_one(const batches *b, sem_error *err)
{
    const command *c = b->command;
    const arguments *a = b->arguments;
    const char *text = argument_of(c, a, "text");
    buffer pair = {0};
    packer p;
    pack_init(&p, &pair);
    pack_map(&p, 3);
    pack_str(&p, "query");
    pack_str(&p, a->words[0]);
    pack_str(&p, "label");
    pack_int(&p, argument_of(c, a, "bad") != NULL ? -1 : 1);
    pack_str(&p, text != NULL ? "text" : "id");
    sem_status status = SEM_OK;
    if (text != NULL)
        pack_str(&p, text);
    else
        status = pack_id_text(&p, a->words[1], err);
    if (status == SEM_OK)
        status = p.failed ? sem_fail_memory(err, "a pair") : batches_send(b, &pair, 1, err);
    buffer_free(&pair);
    return status;
}

sem_status run_feedback(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    const char *file = argument_of(c, a, "file");
    size_t words = file != NULL ? 0 : argument_of(c, a, "text") != NULL ? 1 : 2;
    bool extra = file != NULL && (argument_of(c, a, "text") != NULL || argument_of(c, a, "bad") != NULL);
    if (a->count != words || extra)
        return ctl_usage(ctl, err, "give QUERY ID, QUERY --text TEXT, or --file; try semctl feedback --help");
    uint64_t logged = 0;
    const batches b = {
        .ctl = ctl, .command = c, .arguments = a, .key = "pairs", .take = add_logged, .context = &logged};
    sem_status status = file != NULL ? batches_send_lines(&b, file, FEEDBACK_BATCH, convert_feedback, err)
                                     : feedback_one(&b, err);
    char count[NUMBER_TEXT_MAX];
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        printf("{\"logged\":%" PRIu64 "}\n", logged);
    else
        printf("%s %s logged\n", number_text(count, logged), logged == 1 ? "pair" : "pairs");
    return SEM_OK;
}
