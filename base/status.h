/* Status codes and errors shared by every module.
 *
 * A function that can fail returns a sem_status (0 is success) and, on failure,
 * fills the sem_error that the caller passed. The names of the codes are those
 * of the wire contract; SEM_CANCELLED never leaves the process. */
#ifndef SEM_BASE_STATUS_H
#define SEM_BASE_STATUS_H

#include <stdint.h>

typedef enum sem_status {
    SEM_OK = 0,
    SEM_INVALID_ARGUMENT,
    SEM_NOT_FOUND,
    SEM_ALREADY_EXISTS,
    SEM_RESOURCE_EXHAUSTED,
    SEM_DEADLINE_EXCEEDED,
    SEM_UNAUTHENTICATED,
    SEM_PERMISSION_DENIED,
    SEM_FAILED_PRECONDITION,
    SEM_UNAVAILABLE,
    SEM_INTERNAL,
    SEM_CANCELLED
} sem_status;

enum { SEM_ERROR_MESSAGE_MAX = 1024 }; /* bytes, the final NUL included */

typedef struct sem_error {
    sem_status code;
    uint32_t retry_after_ms; /* only with SEM_RESOURCE_EXHAUSTED; else 0 */
    int line;                /* where the error was raised, for the log */
    const char *file;        /* static string */
    char message[SEM_ERROR_MESSAGE_MAX];
} sem_error;

/* The wire name of a code ("INVALID_ARGUMENT"); "INTERNAL" for anything unknown. */
const char *sem_status_name(sem_status code);

/* Fills *err (may be NULL) and returns code. The message says what was asked,
 * what was found and what to do. Text that does not fit is cut at a UTF-8
 * boundary. Call it through sem_fail(). */
sem_status sem_error_set(sem_error *err, sem_status code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Puts "text: " before the message that is already in *err; returns err->code. */
sem_status sem_error_prefix(sem_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define sem_fail(err, code, ...) sem_error_set((err), (code), __FILE__, __LINE__, __VA_ARGS__)

/* The usual failure of an allocation of `what`. */
#define sem_fail_memory(err, what) sem_fail((err), SEM_RESOURCE_EXHAUSTED, "out of memory for %s", (what))

#endif
