#include "base/files.h"
#include "proto/number.h"
#include "tools/semctl.h"
#include "tools/semctl_text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_FILE_MAX = 16 << 20, CONNECT_TIMEOUT_MS = 10 * 1000, USAGE_TEXT_MAX = 512, TOKEN_FILE_BYTES = 4096 };

/* --- texts to values */

sem_status parse_count(const char *text, uint64_t most, uint64_t *out, sem_error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > most)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be an integer from 0 to %llu, found \"%.64s\"",
                        (unsigned long long)most, text);
    *out = value;
    return SEM_OK;
}

sem_status parse_number(const char *text, double *out, sem_error *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be a number, found \"%.64s\"", text);
    *out = value;
    return SEM_OK;
}

/* 7 and 70, but not 007 or 1e3: those are names. */
static bool is_integer(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && text[digits] == '\0' && (digits == 1 || text[0] != '0');
}

char *ctl_id_text(const msgpack_object *id)
{
    char number[NUMBER_TEXT_MAX];
    if (id == NULL || id->type != MSGPACK_OBJECT_STR) {
        snprintf(number, sizeof number, "%" PRIu64, object_uint(id, 0));
        return strdup(number);
    }
    char *plain = strndup(id->via.str.ptr, id->via.str.size);
    if (plain == NULL || (plain[0] != '"' && !is_integer(plain) && strlen(plain) == id->via.str.size))
        return plain;
    json_t *string = json_stringn(id->via.str.ptr, id->via.str.size);
    char *quoted = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    free(plain);
    return quoted;
}

sem_status pack_id_text(packer *p, const char *text, sem_error *err)
{
    if (is_integer(text)) {
        uint64_t value;
        sem_status status = parse_count(text, UINT64_MAX, &value, err);
        if (status == SEM_OK)
            pack_uint(p, value);
        return status;
    }
    if (text[0] != '"') {
        pack_str(p, text);
        return SEM_OK;
    }
    json_t *quoted;
    sem_status status = convert_parse(&quoted, text, strlen(text), err);
    if (status != SEM_OK)
        return status;
    status = convert_id(p, quoted, err);
    json_decref(quoted);
    return status;
}

static sem_status pack_vector_text(packer *p, const char *text, sem_error *err)
{
    char *content = NULL;
    size_t size = strlen(text);
    sem_status status = SEM_OK;
    if (text[0] == '@')
        status = files_read(text + 1, VECTOR_FILE_MAX, &content, &size, err);
    json_t *array = NULL;
    if (status == SEM_OK)
        status = convert_parse(&array, content != NULL ? content : text, size, err);
    if (status == SEM_OK)
        status = convert_vector(p, array, err);
    json_decref(array);
    free(content);
    return status;
}

static void pack_words(packer *p, const char *text)
{
    size_t count = text[0] == '\0' ? 0 : 1;
    for (const char *c = text; *c != '\0'; c++)
        count += *c == ',';
    pack_array(p, count);
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(text, ",");
        pack_strn(p, text, length);
        text += length + (text[length] == ',');
    }
}

static sem_status pack_option(packer *p, const option_spec *spec, const char *text, sem_error *err)
{
    uint64_t count = 0;
    double number = 0;
    sem_status status = SEM_OK;
    switch (spec->kind) {
    case OPTION_TEXT: pack_str(p, text); break;
    case OPTION_TRUE: pack_bool(p, true); break;
    case OPTION_FALSE: pack_bool(p, false); break;
    case OPTION_WORDS: pack_words(p, text); break;
    case OPTION_JSON: return convert_object(p, text, err);
    case OPTION_ID: return pack_id_text(p, text, err);
    case OPTION_VECTOR: return pack_vector_text(p, text, err);
    case OPTION_COUNT:
        status = parse_count(text, UINT64_MAX, &count, err);
        pack_uint(p, count);
        break;
    case OPTION_NUMBER:
        status = parse_number(text, &number, err);
        pack_double(p, number);
        break;
    case OPTION_LOCAL:
    case OPTION_FLAG: break;
    }
    return status;
}

/* --- the map of a request */

void params_begin(params *m)
{
    *m = (params){0};
    pack_init(&m->p, &m->entries);
}

packer *params_key(params *m, const char *key)
{
    m->count++;
    pack_str(&m->p, key);
    return &m->p;
}

void params_free(params *m)
{
    buffer_free(&m->entries);
    m->count = 0;
}

sem_status params_options(semctl *ctl, params *m, const command *c, const arguments *a, sem_error *err)
{
    for (size_t i = 0; i < c->option_count; i++) {
        const option_spec *spec = &c->options[i];
        if (a->values[i] == NULL || spec->key == NULL)
            continue;
        sem_status status = pack_option(params_key(m, spec->key), spec, a->values[i], err);
        if (status != SEM_OK) {
            ctl->usage = true;
            return sem_error_prefix(err, "--%s", spec->name);
        }
    }
    if (ctl->deadline_ms == NULL)
        return SEM_OK;
    uint64_t deadline = 0;
    sem_status status = parse_count(ctl->deadline_ms, UINT32_MAX, &deadline, err);
    if (status != SEM_OK) {
        ctl->usage = true;
        return sem_error_prefix(err, "--deadline-ms");
    }
    pack_uint(params_key(m, "deadline_ms"), deadline);
    return SEM_OK;
}

sem_status params_end(params *m, buffer *out, sem_error *err)
{
    packer p;
    pack_init(&p, out);
    pack_array(&p, 1);
    pack_map(&p, m->count);
    pack_raw(&p, m->entries.data, m->entries.size);
    bool failed = p.failed || m->p.failed;
    params_free(m);
    return failed ? sem_fail_memory(err, "a request") : SEM_OK;
}

/* --- calling */

sem_status ctl_usage(semctl *ctl, sem_error *err, const char *format, ...)
{
    char text[USAGE_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ctl->usage = true;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s", text);
}

/* What stands in the file, without the blanks and line ends behind it. Owned by the caller. */
static sem_status read_token(const char *path, char **token, size_t *size, sem_error *err)
{
    sem_status status = files_read(path, TOKEN_FILE_BYTES, token, size, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "--token-file");
    while (*size > 0 && strchr(" \t\r\n", (*token)[*size - 1]) != NULL)
        (*token)[--*size] = '\0';
    if (*size > 0 && strlen(*token) == *size)
        return SEM_OK;
    free(*token);
    *token = NULL;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "--token-file: %s holds no token (expected: the token alone)", path);
}

/* A token never comes by an argument: every user of the machine sees those. */
static sem_status authenticate(semctl *ctl, sem_error *err)
{
    const char *given = getenv("SEMCTL_TOKEN");
    char *token = NULL;
    size_t size = 0;
    sem_status status = SEM_OK;
    if (ctl->token_file != NULL)
        status = read_token(ctl->token_file, &token, &size, err);
    else if (given == NULL || given[0] == '\0')
        return SEM_OK;
    if (status == SEM_OK)
        status = client_auth(ctl->client, token != NULL ? token : given, ctl->timeout_ms, ctl->role, err);
    ctl->no_tokens = status == SEM_FAILED_PRECONDITION;
    if (ctl->no_tokens) /* then everything may be asked without */
        status = SEM_OK;
    if (token != NULL)
        explicit_bzero(token, size);
    free(token);
    return status;
}

sem_status ctl_connect(semctl *ctl, sem_error *err)
{
    if (ctl->client != NULL)
        return SEM_OK;
    int limit = ctl->timeout_ms < CONNECT_TIMEOUT_MS ? ctl->timeout_ms : CONNECT_TIMEOUT_MS;
    sem_status status = client_connect(&ctl->client, ctl->address, limit, err);
    if (status == SEM_OK)
        status = authenticate(ctl, err);
    if (status != SEM_OK) {
        client_close(ctl->client);
        ctl->client = NULL;
    }
    return status;
}

sem_status ctl_call(semctl *ctl, const char *method, params *m, client_reply *reply, sem_error *err)
{
    *reply = (client_reply){0};
    buffer message = {0};
    sem_status status = params_end(m, &message, err);
    if (status == SEM_OK)
        status = ctl_connect(ctl, err);
    if (status == SEM_OK)
        status = client_call(ctl->client, method, message.data, message.size, ctl->timeout_ms, reply, err);
    buffer_free(&message);
    if (status == SEM_OK)
        status = client_reply_status(reply, err);
    if (status != SEM_OK)
        client_reply_free(reply);
    return status;
}

sem_status ctl_simple(semctl *ctl, const command *c, const arguments *a, client_reply *reply, sem_error *err)
{
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK)
        return ctl_call(ctl, c->method, &m, reply, err);
    params_free(&m);
    return status;
}

void ctl_print_json(const client_reply *reply, bin_elements bins)
{
    convert_write(stdout, &reply->value, bins);
    putchar('\n');
}

char *ctl_text(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = object_get(map, key);
    bool is_text = o != NULL && o->type == MSGPACK_OBJECT_STR;
    return text_clean(is_text ? o->via.str.ptr : "", is_text ? o->via.str.size : 0, 0);
}
