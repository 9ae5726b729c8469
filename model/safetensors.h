/* The safetensors format (huggingface.co/docs/safetensors): 8 bytes
 * little-endian header length, a JSON header, then the tensors' bytes. */
#ifndef SEM_MODEL_SAFETENSORS_H
#define SEM_MODEL_SAFETENSORS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum tensor_dtype { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_I64, TENSOR_OTHER } tensor_dtype;

enum { TENSOR_DIMS_MAX = 8 };

typedef struct safetensors safetensors;

typedef struct tensor_view {
    const char *name; /* borrowed from the file object */
    tensor_dtype dtype;
    size_t dims; /* 0 for a scalar */
    size_t shape[TENSOR_DIMS_MAX];
    size_t elements; /* product of shape */
    /* Little-endian, row-major, mapped read-only; may be unaligned. A touch is a
     * SIGBUS where the file was cut short meanwhile: tensor_read is safe from that. */
    const void *data;
    size_t bytes;
    const safetensors *file; /* in which it lies */
} tensor_view;

/* Maps the file and checks all of its header: length within the file, JSON,
 * known keys, shapes whose product matches the byte range, offsets inside the
 * file, no overlap, no hole. Errors name file, tensor, found and expected.
 * Only address space is taken for what nobody touches through the map. */
sem_status safetensors_open(safetensors **out, const char *path, sem_error *err);
/* The same for the weights of a folder: its model.safetensors or, where there is
 * only a model.safetensors.index.json, all the files that it names as one. */
sem_status safetensors_open_folder(safetensors **out, const char *dir, sem_error *err);
void safetensors_close(safetensors *file); /* accepts NULL */

size_t safetensors_count(const safetensors *file);
const tensor_view *safetensors_at(const safetensors *file, size_t i); /* in file order */
/* NULL when there is none of that name. Logarithmic time. */
const tensor_view *safetensors_find(const safetensors *file, const char *name);
const char *safetensors_path(const safetensors *file);

/* Elements [first, first + count) of an F32, F16 or BF16 tensor as float32, by reading
 * the file and not through the map. Fails where the file was changed since it was
 * opened; other types are refused. */
sem_status tensor_read(const tensor_view *view, size_t first, size_t count, float *out, sem_error *err);

/* What safetensors_write writes: float32 tensors. */
typedef struct tensor_source {
    const char *name;
    size_t dims;
    size_t shape[TENSOR_DIMS_MAX];
    const float *data;
} tensor_source;

/* Writes a file (temporary name, fsync, rename) with {"format":"pt"} metadata,
 * data aligned to 8 bytes, tensors in the order given. */
sem_status safetensors_write(const char *path, const tensor_source *tensors, size_t count, sem_error *err);

#endif
