#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *sem_status_name(sem_status code)
{
    switch (code) {
    case SEM_OK: return "OK";
    case SEM_INVALID_ARGUMENT: return "INVALID_ARGUMENT";
    case SEM_NOT_FOUND: return "NOT_FOUND";
    case SEM_ALREADY_EXISTS: return "ALREADY_EXISTS";
    case SEM_RESOURCE_EXHAUSTED: return "RESOURCE_EXHAUSTED";
    case SEM_DEADLINE_EXCEEDED: return "DEADLINE_EXCEEDED";
    case SEM_UNAUTHENTICATED: return "UNAUTHENTICATED";
    case SEM_PERMISSION_DENIED: return "PERMISSION_DENIED";
    case SEM_FAILED_PRECONDITION: return "FAILED_PRECONDITION";
    case SEM_UNAVAILABLE: return "UNAVAILABLE";
    case SEM_CANCELLED: return "CANCELLED";
    case SEM_INTERNAL: break;
    }
    return "INTERNAL";
}

/* vsnprintf cuts at a byte; a client must never see half a character. */
static void cut_at_character(char *text)
{
    size_t length = strlen(text);
    size_t start = length;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (length - (start - 1) < want)
        text[start - 1] = '\0';
}

sem_status sem_error_set(sem_error *err, sem_status code, const char *file, int line, const char *format, ...)
{
    if (err == NULL)
        return code;
    err->code = code;
    err->retry_after_ms = 0;
    err->file = file;
    err->line = line;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n < 0)
        err->message[0] = '\0';
    else if ((size_t)n >= sizeof err->message)
        cut_at_character(err->message);
    return code;
}

sem_status sem_error_prefix(sem_error *err, const char *format, ...)
{
    if (err == NULL)
        return SEM_INTERNAL;
    char old[SEM_ERROR_MESSAGE_MAX];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : strlen(err->message);
    int m = snprintf(err->message + used, sizeof err->message - used, ": %s", old);
    if (m < 0 || used + (size_t)m >= sizeof err->message)
        cut_at_character(err->message);
    return err->code;
}
