/* Names of model folders: what clients see as the model's name. */
#ifndef SEM_DAEMON_MODEL_NAME_H
#define SEM_DAEMON_MODEL_NAME_H

#include <stddef.h>

enum { MODEL_NAME_MAX = 40 /* bytes, before what tells candidates apart */ };

/* The last part of text (size bytes), whether or not slashes follow it, at most
 * MODEL_NAME_MAX bytes, with what a folder's name should not hold replaced by
 * '_'. Never "." or "..", and "model" where nothing is left. Any thread. */
void model_name_plain(const char *text, size_t size, char out[MODEL_NAME_MAX + 1]);

#endif
