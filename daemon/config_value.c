/* Values of the configuration: text to number, duration, size, choice, address. */
#include "base/checked.h"
#include "base/utf8.h"
#include "daemon/calendar.h"
#include "daemon/config_keys.h"
#include "daemon/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct unit {
    const char *name;
    uint64_t factor;
} unit;

static const unit duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
static const unit size_units[] = {
    {"KiB", (uint64_t)1 << 10}, {"MiB", (uint64_t)1 << 20}, {"GiB", (uint64_t)1 << 30}, {"TiB", (uint64_t)1 << 40}};

static sem_status refuse(const config_key *key, const char *text, const char *allowed, sem_error *err)
{
    char found[128];
    snprintf(found, sizeof found, "%.*s", (int)utf8_cut(text, strlen(text), sizeof found - 1), text);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s.%s is '%s' (allowed: %s)", key->section, key->name, found, allowed);
}

/* Reads decimal digits; *rest is what follows. False without a digit or when
 * the number does not fit. */
static bool read_digits(const char *text, uint64_t *out, const char **rest)
{
    uint64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    *out = value;
    *rest = p;
    return p != text;
}

/* A number and one of the units; 0 and, where plain is true, any other number
 * may stand without one. */
static bool read_with_unit(const char *text, const unit *units, size_t count, bool plain, uint64_t *out)
{
    uint64_t value;
    const char *rest;
    if (!read_digits(text, &value, &rest))
        return false;
    if (*rest == '\0') {
        *out = value;
        return plain || value == 0;
    }
    rest += strspn(rest, " ");
    for (size_t i = 0; i < count; i++)
        if (strcmp(rest, units[i].name) == 0)
            return !__builtin_mul_overflow(value, units[i].factor, out);
    return false;
}

/* Only digits, sign, point and exponent: strtod() alone takes hexadecimal, "nan" and "inf" as well. */
static bool read_real(const char *text, double *out)
{
    char *end;
    if (*text == '\0' || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    errno = 0;
    *out = strtod(text, &end);
    return *end == '\0' && end != text && !(errno == ERANGE && (*out > 1 || *out < -1));
}

static void store_integer(const config_key *key, void *into, uint64_t value)
{
    char *place = (char *)into + key->offset;
    uint32_t narrow = (uint32_t)value;
    if (key->size == sizeof narrow)
        memcpy(place, &narrow, sizeof narrow);
    else
        memcpy(place, &value, sizeof value);
}

static sem_status set_integer(const config_key *key, void *into, const char *text, sem_error *err)
{
    uint64_t value;
    const char *rest;
    char allowed[96];
    if (read_digits(text, &value, &rest) && *rest == '\0' && value >= key->least && value <= key->most) {
        store_integer(key, into, value);
        return SEM_OK;
    }
    snprintf(allowed, sizeof allowed, "a whole number from %llu to %llu", (unsigned long long)key->least,
             (unsigned long long)key->most);
    return refuse(key, text, allowed, err);
}

/* The bound in the largest unit that divides it. */
static const char *with_unit(char text[40], const unit *units, size_t count, uint64_t value, const char *base)
{
    const char *name = base;
    for (size_t i = count; i-- > 0 && value != 0;)
        if (value % units[i].factor == 0) {
            value /= units[i].factor;
            name = units[i].name;
            break;
        }
    snprintf(text, 40, "%llu%s", (unsigned long long)value, name);
    return text;
}

static sem_status set_with_unit(const config_key *key, void *into, const char *text, sem_error *err)
{
    bool is_size = key->kind == KEY_SIZE;
    const unit *units = is_size ? size_units : duration_units;
    size_t count = is_size ? sizeof size_units / sizeof *size_units : sizeof duration_units / sizeof *duration_units;
    uint64_t value;
    if (read_with_unit(text, units, count, is_size, &value) && value >= key->least && value <= key->most) {
        store_integer(key, into, value);
        return SEM_OK;
    }
    char low[40], high[40], allowed[192];
    snprintf(allowed, sizeof allowed, "%s from %s to %s",
             is_size ? "a whole number of bytes, or with KiB, MiB, GiB or TiB,"
                     : "a whole number with ms, s, m, h or d,",
             with_unit(low, units, count, key->least, ""), with_unit(high, units, count, key->most, ""));
    return refuse(key, text, allowed, err);
}

static sem_status set_real(const config_key *key, void *into, const char *text, sem_error *err)
{
    double value;
    char allowed[96];
    if (read_real(text, &value) && value >= key->real_least && value <= key->real_most) {
        memcpy((char *)into + key->offset, &value, sizeof value);
        return SEM_OK;
    }
    snprintf(allowed, sizeof allowed, "a number from %g to %g", key->real_least, key->real_most);
    return refuse(key, text, allowed, err);
}

static sem_status set_bool(const config_key *key, void *into, const char *text, sem_error *err)
{
    bool value = strcmp(text, "true") == 0;
    if (!value && strcmp(text, "false") != 0)
        return refuse(key, text, "true, false", err);
    memcpy((char *)into + key->offset, &value, sizeof value);
    return SEM_OK;
}

static sem_status set_text(const config_key *key, void *into, const char *text, sem_error *err)
{
    size_t length = strlen(text);
    char allowed[64];
    if (length < key->size && utf8_valid(text, length)) {
        memcpy((char *)into + key->offset, text, length + 1);
        return SEM_OK;
    }
    snprintf(allowed, sizeof allowed, "UTF-8 of at most %zu bytes", key->size - 1);
    return refuse(key, text, allowed, err);
}

static sem_status set_calendar(const config_key *key, void *into, const char *text, sem_error *err)
{
    calendar parsed;
    if (text[0] != '\0' && !calendar_parse(&parsed, text))
        return refuse(key, text, "HH:MM, or days before it: Sun 03:30, Mon,Thu 03:30", err);
    return set_text(key, into, text, err);
}

/* True if text is one of the words of choices ("auto, float32"); a comma ends one only before a space. */
static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    const char *p = choices;
    while (length > 0 && p != NULL) {
        if (strncmp(p, text, length) == 0 && (p[length] == '\0' || strncmp(p + length, ", ", 2) == 0))
            return true;
        p = strchr(p, ' ');
        p = p == NULL ? NULL : p + 1;
    }
    return false;
}

static sem_status set_choice(const config_key *key, void *into, const char *text, sem_error *err)
{
    if (!is_choice(key->choices, text))
        return refuse(key, text, key->choices, err);
    if (key->kind == KEY_CHOICE)
        return set_text(key, into, text, err);
    return log_level_parse(text, &((config *)into)->log_level) ? SEM_OK : refuse(key, text, key->choices, err);
}

static sem_status add_listen(const config_key *key, void *into, const char *text, sem_error *err)
{
    config *c = into;
    endpoint parsed;
    if (endpoint_parse(&parsed, text, err) != SEM_OK)
        return sem_error_prefix(err, "%s.%s", key->section, key->name);
    if (strlen(text) >= CONFIG_ADDRESS_MAX)
        return refuse(key, text, "an address of at most 255 bytes", err);
    if (c->server.listen_count >= CONFIG_LISTEN_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s.%s is given more than %d times", key->section, key->name,
                        CONFIG_LISTEN_MAX);
    memcpy(c->server.listen[c->server.listen_count++], text, strlen(text) + 1);
    return SEM_OK;
}

static sem_status set_http(const config_key *key, void *into, const char *text, sem_error *err)
{
    endpoint parsed;
    if (text[0] != '\0' && endpoint_parse_host_port(&parsed, text, err) != SEM_OK)
        return sem_error_prefix(err, "%s.%s", key->section, key->name);
    return set_text(key, into, text, err);
}

sem_status config_key_set(const config_key *key, void *into, const char *text, sem_error *err)
{
    switch (key->kind) {
    case KEY_BOOL: return set_bool(key, into, text, err);
    case KEY_INTEGER: return set_integer(key, into, text, err);
    case KEY_REAL: return set_real(key, into, text, err);
    case KEY_DURATION:
    case KEY_SIZE: return set_with_unit(key, into, text, err);
    case KEY_PATH: return set_text(key, into, text, err);
    case KEY_CALENDAR: return set_calendar(key, into, text, err);
    case KEY_CHOICE:
    case KEY_LEVEL: return set_choice(key, into, text, err);
    case KEY_LISTEN: return add_listen(key, into, text, err);
    case KEY_HTTP: return set_http(key, into, text, err);
    }
    return sem_fail(err, SEM_INTERNAL, "%s.%s has no kind", key->section, key->name);
}

bool config_key_text(const config_key *key, const void *from, char *text, size_t size)
{
    const char *place = (const char *)from + key->offset;
    uint64_t wide = 0;
    uint32_t narrow;
    double real;
    int length = -1;
    switch (key->kind) {
    case KEY_BOOL: length = snprintf(text, size, "%s", *(const bool *)place ? "true" : "false"); break;
    case KEY_REAL:
        memcpy(&real, place, sizeof real);
        length = snprintf(text, size, "%.17g", real);
        break;
    case KEY_INTEGER:
    case KEY_DURATION:
    case KEY_SIZE:
        if (key->size == sizeof narrow) {
            memcpy(&narrow, place, sizeof narrow);
            wide = narrow;
        } else {
            memcpy(&wide, place, sizeof wide);
        }
        length = snprintf(text, size, "%llu%s", (unsigned long long)wide, key->kind == KEY_DURATION ? "ms" : "");
        break;
    case KEY_PATH:
    case KEY_CALENDAR:
    case KEY_CHOICE:
    case KEY_HTTP: length = snprintf(text, size, "%s", place); break;
    case KEY_LEVEL:
    case KEY_LISTEN: break;
    }
    return length >= 0 && (size_t)length < size;
}
