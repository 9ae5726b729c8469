/* The file object, for the files that open one. */
#ifndef SEM_MODEL_SAFETENSORS_INTERNAL_H
#define SEM_MODEL_SAFETENSORS_INTERNAL_H

#include "model/safetensors.h"

#include <jansson.h>

#include <time.h>

struct safetensors {
    char *path;
    json_t *header; /* owns the names */
    int fd;         /* open as long as the object; -1: none */
    void *map;
    size_t size;              /* bytes of the file */
    struct timespec modified; /* when it was opened */
    tensor_view *views;       /* [count] in file order */
    size_t count;
    size_t *by_name;      /* [count] indices into views */
    safetensors **shards; /* [shard_count] owned; the views are theirs, and header and map are NULL */
    size_t shard_count;
};

/* Fills by_name, whose memory is there. */
void safetensors_sort(safetensors *f);

#endif
