/* Numbers as people read them in messages and tables. */
#ifndef SEM_PROTO_NUMBER_H
#define SEM_PROTO_NUMBER_H

#include <stdint.h>

enum { NUMBER_TEXT_MAX = 32 /* bytes, NUL included */ };

/* 1234567 as "1,234,567", whatever the locale; returns out. */
const char *number_text(char out[NUMBER_TEXT_MAX], uint64_t value);

#endif
