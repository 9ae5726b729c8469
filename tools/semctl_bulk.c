#include "tools/semctl_bulk.h"

#include "proto/number.h"
#include "tools/semctl_lines.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BATCH_DOCS = 64,
    BATCH_BYTES = 256 << 10,
    WINDOW = 8, /* requests in flight: enough to keep the server's writer busy */
    LINE_BYTES_MAX = 64 << 20,
    ATTEMPTS_MAX = 200, /* of a batch that the server has no room for */
    RETRY_MS_MAX = 10 * 1000,
    REPORTS_MAX = 50, /* failures that are told one by one */
    TEXT_BYTES_DEFAULT = 1 << 20
};

typedef struct origin {
    const char *source;
    size_t line;
    size_t end; /* of the document in the batch's bytes */
} origin;

typedef struct batch {
    buffer docs; /* packed, one behind the other */
    origin from[BATCH_DOCS];
    size_t count;
    bool in_flight;
    uint32_t msgid;
    unsigned attempts;
} batch;

struct bulk {
    semctl *ctl; /* borrowed */
    const char *collection, *generation;
    uint64_t total_bytes, input_bytes;
    size_t text_limit, doc_limit; /* of the server */
    batch batches[WINDOW];
    batch *filling;
    size_t flying;
    uint64_t stored, truncated, failed;
    progress bar;
};

/* --- reporting */

void bulk_reject(bulk *b, const char *source, size_t line, const char *reason)
{
    b->failed++;
    if (b->failed > REPORTS_MAX)
        return;
    progress_clear(&b->bar);
    if (line > 0)
        fprintf(stderr, "%s:%zu: %s\n", source, line, reason);
    else
        fprintf(stderr, "%s: %s\n", source, reason);
    if (b->failed == REPORTS_MAX)
        fprintf(stderr, "(further failures are only counted)\n");
}

static void show(bulk *b)
{
    char stored[NUMBER_TEXT_MAX], eta[TEXT_MAX] = "?";
    double seconds = progress_seconds(&b->bar);
    double share = b->total_bytes > 0 ? (double)b->input_bytes / (double)b->total_bytes : -1;
    if (share > 0)
        text_duration(eta, share < 1 ? seconds / share * (1 - share) : 0);
    progress_show(&b->bar, "loading", share, "%s documents  %.0f/s%s%s", number_text(stored, b->stored),
                  seconds > 0 ? (double)b->stored / seconds : 0, share > 0 ? "  ETA " : "", share > 0 ? eta : "");
}

/* --- batches */

static void batch_clear(bulk *b, batch *t)
{
    if (t->in_flight)
        b->flying--;
    t->docs.size = 0;
    t->count = 0;
    t->in_flight = false;
    t->attempts = 0;
}

static void batch_remove(batch *t, size_t place)
{
    size_t start = place > 0 ? t->from[place - 1].end : 0;
    size_t size = t->from[place].end - start;
    memmove(t->docs.data + start, t->docs.data + t->from[place].end, t->docs.size - t->from[place].end);
    t->docs.size -= size;
    t->count--;
    for (size_t i = place; i < t->count; i++) {
        t->from[i] = t->from[i + 1];
        t->from[i].end -= size;
    }
}

static sem_status batch_send(bulk *b, batch *t, sem_error *err)
{
    params m;
    buffer message = {0};
    params_begin(&m);
    if (b->collection != NULL)
        pack_str(params_key(&m, "collection"), b->collection);
    uint64_t number = 0;
    sem_status status = SEM_OK;
    if (b->generation != NULL) {
        status = parse_count(b->generation, UINT32_MAX, &number, err);
        pack_uint(params_key(&m, "generation"), number);
    }
    if (status == SEM_OK && b->ctl->deadline_ms != NULL) {
        status = parse_count(b->ctl->deadline_ms, UINT32_MAX, &number, err);
        pack_uint(params_key(&m, "deadline_ms"), number);
    }
    if (status != SEM_OK) {
        params_free(&m);
        b->ctl->usage = true;
        return status;
    }
    packer *p = params_key(&m, "docs");
    pack_array(p, t->count);
    pack_raw(p, t->docs.data, t->docs.size);
    status = params_end(&m, &message, err);
    if (status == SEM_OK)
        status = client_send(b->ctl->client, "upsert", message.data, message.size, &t->msgid, err);
    buffer_free(&message);
    if (status == SEM_OK && !t->in_flight)
        b->flying++;
    t->in_flight = t->in_flight || status == SEM_OK;
    return status;
}

/* The server is full: the same again, after the time that it asks for. */
static sem_status batch_retry(bulk *b, batch *t, uint32_t retry_after_ms, sem_error *err)
{
    uint32_t ms = retry_after_ms < 1 ? 1 : retry_after_ms > RETRY_MS_MAX ? RETRY_MS_MAX : retry_after_ms;
    struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
    t->attempts++;
    return batch_send(b, t, err);
}

/* An answer that refuses the batch. "docs[N]: ..." is about one document: the others are sent again without it. */
static sem_status batch_refused(bulk *b, batch *t, const sem_error *why, sem_error *err)
{
    if (why->code == SEM_RESOURCE_EXHAUSTED && t->attempts < ATTEMPTS_MAX)
        return batch_retry(b, t, why->retry_after_ms, err);
    size_t place = 0;
    int used = 0;
    if (sscanf(why->message, "docs[%zu]: %n", &place, &used) == 1 && used > 0 && place < t->count) {
        bulk_reject(b, t->from[place].source, t->from[place].line, why->message + used);
        batch_remove(t, place);
        if (t->count > 0)
            return batch_send(b, t, err);
    }
    char reason[SEM_ERROR_MESSAGE_MAX + TEXT_MAX];
    snprintf(reason, sizeof reason, "%s: %s", sem_status_name(why->code), why->message);
    for (size_t i = 0; i < t->count; i++)
        bulk_reject(b, t->from[i].source, t->from[i].line, reason);
    batch_clear(b, t);
    return SEM_OK;
}

static sem_status take_answer(bulk *b, sem_error *err)
{
    client_reply reply;
    sem_status status = client_receive(b->ctl->client, b->ctl->timeout_ms, &reply, err);
    if (status != SEM_OK)
        return status;
    batch *t = NULL;
    for (size_t i = 0; i < WINDOW; i++)
        if (b->batches[i].in_flight && b->batches[i].msgid == reply.msgid)
            t = &b->batches[i];
    sem_error why;
    if (t != NULL && client_reply_status(&reply, &why) != SEM_OK) {
        status = batch_refused(b, t, &why, err);
    } else if (t != NULL) {
        b->stored += object_uint(object_get(&reply.value, "upserted"), t->count);
        b->truncated += object_uint(object_get(&reply.value, "truncated"), 0);
        batch_clear(b, t);
    }
    client_reply_free(&reply);
    show(b);
    return status;
}

/* Sends the batch that is being filled, and finds a free one. */
static sem_status flush(bulk *b, sem_error *err)
{
    sem_status status = b->filling->count > 0 ? batch_send(b, b->filling, err) : SEM_OK;
    while (status == SEM_OK && b->flying == WINDOW)
        status = take_answer(b, err);
    for (size_t i = 0; i < WINDOW && status == SEM_OK; i++)
        if (!b->batches[i].in_flight)
            b->filling = &b->batches[i];
    return status;
}

/* --- the whole */

static sem_status ask_limits(bulk *b, sem_error *err)
{
    params m;
    client_reply reply;
    params_begin(&m);
    sem_status status = ctl_call(b->ctl, "info", &m, &reply, err);
    if (status != SEM_OK)
        return status;
    const msgpack_object *limits = object_get(&reply.value, "limits");
    b->text_limit = object_uint(object_get(limits, "text_bytes"), TEXT_BYTES_DEFAULT);
    b->doc_limit = object_uint(object_get(limits, "upsert_docs"), BATCH_DOCS);
    b->doc_limit = b->doc_limit < 1 ? 1 : b->doc_limit > BATCH_DOCS ? BATCH_DOCS : b->doc_limit;
    client_reply_free(&reply);
    return SEM_OK;
}

sem_status bulk_create(bulk **out, semctl *ctl, const char *collection, const char *generation, uint64_t total_bytes,
                       sem_error *err)
{
    *out = NULL;
    bulk *b = calloc(1, sizeof *b);
    if (b == NULL)
        return sem_fail_memory(err, "loading");
    b->ctl = ctl;
    b->collection = collection;
    b->generation = generation;
    b->total_bytes = total_bytes;
    b->filling = &b->batches[0];
    sem_status status = ask_limits(b, err);
    if (status != SEM_OK) {
        bulk_destroy(b);
        return status;
    }
    progress_begin(&b->bar);
    *out = b;
    return SEM_OK;
}

void bulk_destroy(bulk *b)
{
    if (b == NULL)
        return;
    progress_clear(&b->bar);
    for (size_t i = 0; i < WINDOW; i++)
        buffer_free(&b->batches[i].docs);
    free(b);
}

sem_status bulk_add(bulk *b, const void *doc, size_t size, size_t text_bytes, const char *source, size_t line,
                    size_t input_bytes, sem_error *err)
{
    b->input_bytes += input_bytes;
    if (text_bytes > b->text_limit) {
        char reason[2 * TEXT_MAX + 64];
        snprintf(reason, sizeof reason, "text: %zu bytes, at most %zu (limits.text_bytes)", text_bytes, b->text_limit);
        bulk_reject(b, source, line, reason);
        return SEM_OK;
    }
    sem_status status = SEM_OK;
    if (b->filling->count > 0 && b->filling->docs.size + size > BATCH_BYTES)
        status = flush(b, err);
    batch *t = b->filling;
    if (status == SEM_OK && !buffer_append(&t->docs, doc, size))
        status = sem_fail_memory(err, "a batch of documents");
    if (status != SEM_OK)
        return status;
    t->from[t->count++] = (origin){source, line, t->docs.size};
    show(b);
    return t->count >= b->doc_limit ? flush(b, err) : SEM_OK;
}

/* Reads up to the line's end; *got false at the end of the file. What is above
 * the limit is passed over and *too_long set. */
static sem_status read_line(FILE *in, const char *source, buffer *line, bool *got, bool *too_long, sem_error *err)
{
    line->size = 0;
    *too_long = false;
    int c = EOF;
    flockfile(in);
    while ((c = getc_unlocked(in)) != EOF && c != '\n') {
        unsigned char byte = (unsigned char)c;
        *too_long = *too_long || line->size >= LINE_BYTES_MAX;
        if (*too_long)
            continue;
        if (!buffer_append(line, &byte, 1))
            break;
    }
    funlockfile(in);
    *got = c != EOF || line->size > 0;
    if (c != EOF && c != '\n')
        return sem_fail_memory(err, "a line");
    return ferror(in) ? sem_fail(err, SEM_INVALID_ARGUMENT, "cannot read %s: %s", source, strerror(errno)) : SEM_OK;
}

static bool is_blank(const buffer *line)
{
    for (size_t i = 0; i < line->size; i++)
        if (strchr(" \t\r", line->data[i]) == NULL || line->data[i] == '\0')
            return false;
    return true;
}

static sem_status add_line(bulk *b, const buffer *line, const char *source, size_t number, buffer *doc, sem_error *err)
{
    packer p;
    size_t text_bytes = 0, mark = number == 1 ? lines_mark(line->data, line->size) : 0;
    sem_error why;
    doc->size = 0;
    pack_init(&p, doc);
    if (convert_document(&p, (const char *)line->data + mark, line->size - mark, &text_bytes, &why) != SEM_OK) {
        b->input_bytes += line->size + 1;
        bulk_reject(b, source, number, why.message);
        return SEM_OK;
    }
    if (p.failed)
        return sem_fail_memory(err, "a document");
    return bulk_add(b, doc->data, doc->size, text_bytes, source, number, line->size + 1, err);
}

sem_status bulk_add_lines(bulk *b, FILE *in, const char *source, sem_error *err)
{
    buffer line = {0}, doc = {0};
    bool got = true, too_long;
    sem_status status = SEM_OK;
    for (size_t number = 1; status == SEM_OK; number++) {
        status = read_line(in, source, &line, &got, &too_long, err);
        if (status != SEM_OK || !got)
            break;
        if (too_long)
            bulk_reject(b, source, number, "the line is longer than 64 MiB");
        else if (is_blank(&line))
            b->input_bytes += line.size + 1;
        else
            status = add_line(b, &line, source, number, &doc, err);
    }
    buffer_free(&line);
    buffer_free(&doc);
    return status;
}

sem_status bulk_finish(bulk *b, sem_error *err)
{
    sem_status status = flush(b, err);
    while (status == SEM_OK && b->flying > 0)
        status = take_answer(b, err);
    progress_clear(&b->bar);
    double seconds = progress_seconds(&b->bar);
    char stored[NUMBER_TEXT_MAX], truncated[NUMBER_TEXT_MAX], failed[NUMBER_TEXT_MAX], took[TEXT_MAX];
    number_text(stored, b->stored);
    number_text(truncated, b->truncated);
    number_text(failed, b->failed);
    if (b->ctl->json)
        printf("{\"upserted\":%" PRIu64 ",\"truncated\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"seconds\":%.3f}\n",
               b->stored, b->truncated, b->failed, seconds);
    else
        printf("%s %s stored in %s (%.0f/s), %s of them cut to the model's length\n", stored,
               b->stored == 1 ? "document" : "documents", text_duration(took, seconds),
               (double)b->stored / (seconds > 0.001 ? seconds : 0.001), truncated);
    if (status != SEM_OK)
        return status;
    if (b->failed > 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s %s not stored", failed,
                        b->failed == 1 ? "document was" : "documents were");
    return SEM_OK;
}
