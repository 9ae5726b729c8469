/* Tests that start the real daemon and talk to it as a client would. Requests
 * are written as JSON. */
#ifndef SEM_TESTS_DAEMON_BLACKBOX_H
#define SEM_TESTS_DAEMON_BLACKBOX_H

#include "tests/common/testing.h"

#include "base/files.h"
#include "base/process.h"
#include "proto/client.h"
#include "proto/pack.h"
#include "daemon/json_pack.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BOX_TIMEOUT_MS = 200000, BOX_OPTIONS_MAX = 24 };

typedef struct box {
    process daemon;
    char binary[FILES_PATH_MAX], storage[FILES_PATH_MAX + 32], model[FILES_PATH_MAX + 32], log[FILES_PATH_MAX];
    const char *options[BOX_OPTIONS_MAX]; /* more -o, ended by NULL */
    client *client;
    client_reply reply;
    bool has_reply;
} box;

/* The folder of the programs under test. */
static inline const char *box_build(void)
{
    const char *build = getenv("SEMD_BUILD");
    return build != NULL ? build : "build";
}

static inline const char *box_binary(void)
{
    static char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/semd", box_build());
    return path;
}

static inline client *box_connect(box *b)
{
    sem_error error;
    client *c;
    ck_ok(client_connect(&c, b->daemon.address, BOX_TIMEOUT_MS, &error));
    return c;
}

/* The daemon's command line, whose words are b's. */
static inline void box_argv(box *b, char *argv[2 * BOX_OPTIONS_MAX + 18])
{
    char *const first[] = {b->binary,
                           (char *)"-o",
                           (char *)"server.listen=tcp://127.0.0.1:0",
                           (char *)"-o",
                           (char *)"server.http=",
                           (char *)"-o",
                           b->storage,
                           (char *)"-o",
                           b->model,
                           (char *)"-o",
                           (char *)"storage.map_size=4GiB"}; /* ThreadSanitizer leaves no room for the default */
    size_t n = sizeof first / sizeof *first;
    memcpy(argv, first, sizeof first);
    for (size_t i = 0; b->options[i] != NULL; i++) {
        argv[n++] = (char *)"-o";
        argv[n++] = (char *)(uintptr_t)b->options[i];
    }
    argv[n] = NULL;
}

/* Starts, or starts again on the same storage. */
static inline void box_start(box *b)
{
    sem_error error;
    char *argv[2 * BOX_OPTIONS_MAX + 18];
    box_argv(b, argv);
    ck_ok(process_start(&b->daemon, argv, b->log, false, NULL, &error));
    b->client = box_connect(b);
}

/* model: a directory below ../shared, or NULL when it is missing (the test is
 * then skipped by its caller). */
static inline bool box_create(box *b, const char *shared_model)
{
    memset(b, 0, sizeof *b);
    const char *model = testing_shared(shared_model);
    if (model == NULL)
        return false;
    snprintf(b->binary, sizeof b->binary, "%s", box_binary());
    snprintf(b->model, sizeof b->model, "model.path=%s", model);
    snprintf(b->storage, sizeof b->storage, "storage.path=%s/data", testing_folder());
    snprintf(b->log, sizeof b->log, "%s/log", testing_folder());
    return true;
}

static inline void box_forget_reply(box *b)
{
    if (b->has_reply)
        client_reply_free(&b->reply);
    b->has_reply = false;
}

static inline void box_disconnect(box *b)
{
    box_forget_reply(b);
    client_close(b->client);
    b->client = NULL;
}

static inline void box_stop(box *b)
{
    box_disconnect(b);
    ck_assert_msg(process_stop(&b->daemon), "the daemon did not end with status 0; see %s", b->log);
}

static inline void box_kill(box *b)
{
    box_disconnect(b);
    kill(b->daemon.pid, SIGKILL);
    waitpid(b->daemon.pid, NULL, 0);
}

/* The parameters of an upsert (collection NULL: of the default one), up to its `count`
 * documents, which box_pack_text() adds. */
static inline packer box_begin_upsert(buffer *out, const char *collection, size_t count)
{
    packer p;
    pack_init(&p, out);
    pack_array(&p, 1);
    pack_map(&p, collection != NULL ? 2 : 1);
    if (collection != NULL) {
        pack_str(&p, "collection");
        pack_str(&p, collection);
    }
    pack_str(&p, "docs");
    pack_array(&p, count);
    return p;
}

static inline void box_pack_text(packer *p, unsigned id, const char *text, size_t length)
{
    pack_map(p, 2);
    pack_str(p, "id");
    pack_uint(p, id);
    pack_str(p, "text");
    pack_strn(p, text, length);
}

/* The parameters of an upsert of one document with this text. */
static inline void box_document(buffer *out, unsigned id, const char *text)
{
    packer p = box_begin_upsert(out, NULL, 1);
    box_pack_text(&p, id, text, strlen(text));
    ck_assert(!p.failed);
}

/* Parameters from a map, which is given up. */
static inline void box_pack_json(buffer *out, json_t *map)
{
    packer p;
    pack_init(&p, out);
    pack_array(&p, 1);
    ck_assert_ptr_nonnull(map);
    json_pack_value(&p, map);
    json_decref(map);
    ck_assert(!p.failed);
}

/* The same from printf-like JSON with ' for ". */
__attribute__((format(printf, 2, 0))) static inline void box_params(buffer *out, const char *format, va_list args)
{
    char *text;
    ck_assert_int_ge(vasprintf(&text, format, args), 0);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\'')
            *c = '"';
    json_t *value = json_loads(text, 0, NULL);
    ck_assert_msg(value != NULL, "no JSON: %s", text);
    box_pack_json(out, value);
    free(text);
}

/* Sends a request without waiting for its answer, and gives params up; returns its msgid. */
static inline uint32_t box_send_packed(client *c, const char *method, buffer *params)
{
    sem_error error;
    uint32_t msgid;
    ck_ok(client_send(c, method, params->data, params->size, &msgid, &error));
    buffer_free(params);
    return msgid;
}

__attribute__((format(printf, 3, 0))) static inline uint32_t box_vsend(client *c, const char *method,
                                                                       const char *format, va_list args)
{
    buffer params = {0};
    box_params(&params, format, args);
    return box_send_packed(c, method, &params);
}

/* The same from printf-like JSON. */
__attribute__((format(printf, 3, 4))) static inline uint32_t box_send(client *c, const char *method, const char *format,
                                                                      ...)
{
    va_list args;
    va_start(args, format);
    uint32_t msgid = box_vsend(c, method, format, args);
    va_end(args);
    return msgid;
}

/* Sends params, which are given up, and returns the result or the error map. */
static inline const msgpack_object *box_send_on(box *b, client *c, const char *method, buffer *params)
{
    sem_error error;
    box_forget_reply(b);
    ck_ok(client_call(c, method, params->data, params->size, BOX_TIMEOUT_MS, &b->reply, &error));
    buffer_free(params);
    b->has_reply = true;
    return &b->reply.value;
}

static inline const msgpack_object *box_result(const box *b, const char *method)
{
    const msgpack_object *message = object_get(&b->reply.value, "message");
    ck_assert_msg(!b->reply.is_error, "%s: %s: %.*s", method, b->reply.code,
                  message != NULL ? (int)message->via.str.size : 0, message != NULL ? message->via.str.ptr : "");
    return &b->reply.value;
}

/* As box_call, with parameters that a packer made and that are given up. */
static inline const msgpack_object *box_call_packed(box *b, const char *method, buffer *params)
{
    box_send_on(b, b->client, method, params);
    return box_result(b, method);
}

/* Deletes the documents with the ids from `first` on, all of which there are. */
static inline void box_delete_range(box *b, const char *collection, unsigned first, unsigned count)
{
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "collection");
    pack_str(&p, collection);
    pack_str(&p, "ids");
    pack_array(&p, count);
    for (unsigned i = 0; i < count; i++)
        pack_uint(&p, first + i);
    const msgpack_object *result = box_call_packed(b, "delete", &params);
    ck_assert_uint_eq(object_uint(object_get(result, "deleted"), 0), count);
}

__attribute__((format(printf, 4, 0))) static inline const msgpack_object *box_call_on(box *b, client *c,
                                                                                      const char *method,
                                                                                      const char *format, va_list args)
{
    buffer params = {0};
    if (format != NULL)
        box_params(&params, format, args);
    return box_send_on(b, c, method, &params);
}

/* Calls and expects a result, which is valid until the next call. */
__attribute__((format(printf, 3, 4))) static inline const msgpack_object *box_call(box *b, const char *method,
                                                                                   const char *format, ...)
{
    va_list args;
    va_start(args, format);
    box_call_on(b, b->client, method, format, args);
    va_end(args);
    return box_result(b, method);
}

/* Until the latest job is in this state. One that ended in another fails the test with its reason. */
static inline void box_wait_for_job(box *b, const char *state)
{
    static const char *const ends[] = {"done", "failed", "cancelled"};
    for (;;) {
        const msgpack_object *job = box_call(b, "job", "{}"), *now = object_get(job, "state");
        const msgpack_object *reason = object_get(job, "reason");
        bool told = reason != NULL && reason->type == MSGPACK_OBJECT_STR;
        if (object_is(now, state))
            return;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
            ck_assert_msg(!object_is(now, ends[i]), "the job is %s, not %s: %.*s", ends[i], state,
                          told ? (int)reason->via.str.size : 0, told ? reason->via.str.ptr : "");
        usleep(20000);
    }
}

/* semctl's exit status; what it prints is in semctl.log. */
__attribute__((format(printf, 1, 2))) static inline int box_semctl(const char *format, ...)
{
    char words[2 * FILES_PATH_MAX], line[3 * FILES_PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    snprintf(line, sizeof line, "%s/semctl %s >%s/semctl.log 2>&1", box_build(), words, testing_folder());
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Calls and expects an error of this code; returns its message. */
__attribute__((format(printf, 4, 5))) static inline const char *box_fails(box *b, const char *code, const char *method,
                                                                          const char *format, ...)
{
    static char message[2048];
    va_list args;
    va_start(args, format);
    const msgpack_object *result = box_call_on(b, b->client, method, format, args);
    va_end(args);
    ck_assert_msg(b->reply.is_error, "%s(%s) succeeded instead of %s", method, format, code);
    const msgpack_object *text = object_get(result, "message");
    snprintf(message, sizeof message, "%.*s", text != NULL ? (int)text->via.str.size : 0,
             text != NULL ? text->via.str.ptr : "");
    ck_assert_msg(strcmp(b->reply.code, code) == 0, "%s: %s instead of %s: %s", method, b->reply.code, code, message);
    return message;
}

static inline const msgpack_object *box_at(const msgpack_object *array, size_t i)
{
    ck_assert_ptr_nonnull(array);
    ck_assert_int_eq(array->type, MSGPACK_OBJECT_ARRAY);
    ck_assert_uint_lt(i, array->via.array.size);
    return &array->via.array.ptr[i];
}

static inline size_t box_count(const msgpack_object *array)
{
    ck_assert_ptr_nonnull(array);
    ck_assert_int_eq(array->type, MSGPACK_OBJECT_ARRAY);
    return array->via.array.size;
}

/* What collection.list says of one. */
static inline const msgpack_object *box_collection(box *b, const char *name)
{
    const msgpack_object *all = box_call(b, "collection.list", NULL);
    for (size_t i = 0; i < box_count(all); i++)
        if (object_is(object_get(box_at(all, i), "name"), name))
            return box_at(all, i);
    ck_abort_msg("no collection %s", name);
}

#endif
