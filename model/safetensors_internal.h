/* The file object, for the files that open one. */
#ifndef SEM_MODEL_SAFETENSORS_INTERNAL_H
#define SEM_MODEL_SAFETENSORS_INTERNAL_H

#include "model/safetensors.h"

#include <jansson.h>

struct safetensors {
    char *path;
    json_t *header; /* owns the names */
    void *map;
    size_t size;        /* bytes of the file */
    tensor_view *views; /* [count] in file order */
    size_t count;
    size_t *by_name;      /* [count] indices into views */
    safetensors **shards; /* [shard_count] owned; the views are theirs, and header and map are NULL */
    size_t shard_count;
};

/* Fills by_name, whose memory is there. */
void safetensors_sort(safetensors *f);

#endif
