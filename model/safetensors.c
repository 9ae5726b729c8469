#include "base/checked.h"
#include "base/files.h"
#include "model/json.h"
#include "model/safetensors_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian in the file and used in place");

enum {
    PREFIX_BYTES = 8,
    HEADER_MAX = 100 << 20 /* bytes; the format's own limit */
};

typedef struct dtype_row {
    const char *name;
    tensor_dtype dtype;
    size_t bytes;
} dtype_row;

static const dtype_row DTYPES[] = {
    {"F32", TENSOR_F32, 4},    {"F16", TENSOR_F16, 2},       {"BF16", TENSOR_BF16, 2},     {"I64", TENSOR_I64, 8},
    {"F64", TENSOR_OTHER, 8},  {"U64", TENSOR_OTHER, 8},     {"I32", TENSOR_OTHER, 4},     {"U32", TENSOR_OTHER, 4},
    {"I16", TENSOR_OTHER, 2},  {"U16", TENSOR_OTHER, 2},     {"I8", TENSOR_OTHER, 1},      {"U8", TENSOR_OTHER, 1},
    {"BOOL", TENSOR_OTHER, 1}, {"F8_E4M3", TENSOR_OTHER, 1}, {"F8_E5M2", TENSOR_OTHER, 1},
};

static const dtype_row *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof DTYPES / sizeof DTYPES[0]; i++)
        if (strcmp(DTYPES[i].name, name) == 0)
            return &DTYPES[i];
    return NULL;
}

/* --- one tensor's entry */

typedef struct entry {
    const safetensors *file;
    const char *path, *name;
    const json_t *object;
    sem_error *err;
} entry;

#define entry_fail(e, ...) entry_refuse((e), __LINE__, __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static sem_status entry_refuse(const entry *e, int line, const char *format, ...)
{
    char detail[512];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    return sem_error_set(e->err, SEM_INVALID_ARGUMENT, __FILE__, line, "%s: tensor %.200s: %s", e->path, e->name,
                         detail);
}

/* A size in a shape or an offset: an integer from 0. */
static sem_status read_size(const entry *e, const char *what, const json_t *value, size_t *out)
{
    if (!json_is_integer(value))
        return entry_fail(e, "%s holds %s, expected integers", what, json_type_name(value));
    if (json_integer_value(value) < 0)
        return entry_fail(e, "%s holds %lld, expected no negative number", what, (long long)json_integer_value(value));
    *out = (size_t)json_integer_value(value);
    return SEM_OK;
}

static sem_status read_shape(const entry *e, tensor_view *view)
{
    const json_t *shape = json_object_get(e->object, "shape");
    if (!json_is_array(shape))
        return entry_fail(e, "shape is %s, expected an array", json_type_name(shape));
    if (json_array_size(shape) > TENSOR_DIMS_MAX)
        return entry_fail(e, "shape has %zu dimensions, at most %d are taken", json_array_size(shape), TENSOR_DIMS_MAX);
    view->dims = json_array_size(shape);
    view->elements = 1;
    for (size_t i = 0; i < view->dims; i++) {
        sem_status status = read_size(e, "shape", json_array_get(shape, i), &view->shape[i]);
        if (status != SEM_OK)
            return status;
        if (!checked_mul(view->elements, view->shape[i], &view->elements))
            return entry_fail(e, "the product of its shape does not fit in 64 bits");
    }
    return SEM_OK;
}

static sem_status read_range(const entry *e, tensor_view *view, const char *data, size_t data_size)
{
    const json_t *offsets = json_object_get(e->object, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return entry_fail(e, "data_offsets is %s of %zu, expected an array of two integers", json_type_name(offsets),
                          json_array_size(offsets));
    size_t begin, end;
    sem_status status = read_size(e, "data_offsets", json_array_get(offsets, 0), &begin);
    if (status == SEM_OK)
        status = read_size(e, "data_offsets", json_array_get(offsets, 1), &end);
    if (status != SEM_OK)
        return status;
    if (begin > end || end > data_size)
        return entry_fail(e, "data_offsets are [%zu, %zu], expected a range within the file's %zu bytes of data", begin,
                          end, data_size);
    view->data = data + begin;
    view->bytes = end - begin;
    return SEM_OK;
}

static sem_status read_entry(const entry *e, tensor_view *view, const char *data, size_t data_size)
{
    if (!json_is_object(e->object))
        return entry_fail(e, "its entry is %s, expected an object", json_type_name(e->object));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)e->object, key, value)
    {
        if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
            return entry_fail(e, "found the key \"%.64s\", expected dtype, shape and data_offsets", key);
    }
    const json_t *dtype = json_object_get(e->object, "dtype");
    const dtype_row *row = json_is_string(dtype) ? find_dtype(json_string_value(dtype)) : NULL;
    if (row == NULL)
        return entry_fail(e, "dtype is %.64s, expected F32, F16, BF16 or another of the format's whole-byte types",
                          json_is_string(dtype) ? json_string_value(dtype) : json_type_name(dtype));
    *view = (tensor_view){.name = e->name, .file = e->file, .dtype = row->dtype};
    sem_status status = read_shape(e, view);
    if (status == SEM_OK)
        status = read_range(e, view, data, data_size);
    if (status != SEM_OK)
        return status;
    size_t wanted;
    if (!checked_mul(view->elements, row->bytes, &wanted))
        return entry_fail(e, "its size in bytes does not fit in 64 bits");
    if (wanted != view->bytes)
        return entry_fail(e, "found %zu bytes of data, expected %zu (%zu elements of %s)", view->bytes, wanted,
                          view->elements, row->name);
    return SEM_OK;
}

/* --- the whole file */

static int compare_places(const void *a, const void *b)
{
    const tensor_view *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorts the tensors by place and checks that they fill the data without overlap or hole. */
static sem_status check_places(safetensors *f, const char *data, size_t data_size, sem_error *err)
{
    qsort(f->views, f->count, sizeof *f->views, compare_places);
    size_t end = 0;
    for (size_t i = 0; i < f->count; i++) {
        const tensor_view *view = &f->views[i];
        size_t begin = (size_t)((const char *)view->data - data);
        if (begin != end)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: tensor %.200s begins at byte %zu of the data, expected %zu: %s", f->path, view->name,
                            begin, end, begin < end ? "it overlaps the one before it" : "there is a hole before it");
        end = begin + view->bytes;
    }
    if (end != data_size)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the tensors end at byte %zu of the data, which has %zu",
                        f->path, end, data_size);
    return SEM_OK;
}

static int compare_names(const void *a, const void *b, void *views)
{
    const tensor_view *v = views;
    return strcmp(v[*(const size_t *)a].name, v[*(const size_t *)b].name);
}

void safetensors_sort(safetensors *f)
{
    for (size_t i = 0; i < f->count; i++)
        f->by_name[i] = i;
    qsort_r(f->by_name, f->count, sizeof *f->by_name, compare_names, f->views);
}

static sem_status read_header(safetensors *f, const char *data, size_t data_size, sem_error *err)
{
    size_t entries = json_object_size(f->header);
    f->views = checked_realloc(NULL, entries + 1, sizeof *f->views);
    f->by_name = checked_realloc(NULL, entries + 1, sizeof *f->by_name);
    if (f->views == NULL || f->by_name == NULL)
        return sem_fail_memory(err, f->path);
    const char *name;
    json_t *object;
    json_object_foreach(f->header, name, object)
    {
        if (strcmp(name, "__metadata__") == 0) {
            if (!json_is_object(object))
                return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: __metadata__ is %s, expected an object", f->path,
                                json_type_name(object));
            continue;
        }
        const entry e = {f, f->path, name, object, err};
        sem_status status = read_entry(&e, &f->views[f->count], data, data_size);
        if (status != SEM_OK)
            return status;
        f->count++;
    }
    sem_status status = check_places(f, data, data_size, err);
    if (status != SEM_OK)
        return status;
    safetensors_sort(f);
    return SEM_OK;
}

/* Bytes [from, from + count) of the file. */
static sem_status read_bytes(const safetensors *f, size_t from, size_t count, void *out, sem_error *err)
{
    char *to = out;
    while (count > 0) {
        ssize_t n = pread(f->fd, to, count, (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sem_fail(err, SEM_INTERNAL, "cannot read %s: %s", f->path, strerror(errno));
        if (n == 0)
            return sem_fail(err, SEM_INTERNAL, "%s ends at byte %zu: it was cut short while it was read", f->path,
                            from);
        to += n;
        from += (size_t)n;
        count -= (size_t)n;
    }
    return SEM_OK;
}

static sem_status parse_header(safetensors *f, size_t length, sem_error *err)
{
    char *text = malloc(length);
    if (text == NULL)
        return sem_fail_memory(err, f->path);
    json_error_t e;
    sem_status status = read_bytes(f, PREFIX_BYTES, length, text, err);
    if (status == SEM_OK) {
        f->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &e);
        if (f->header == NULL && json_error_code(&e) == json_error_out_of_memory)
            status = sem_fail_memory(err, f->path);
        else if (f->header == NULL)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the header is not valid JSON at byte %d: %s", f->path,
                              e.position, e.text);
    }
    free(text);
    return status;
}

static sem_status parse(safetensors *f, sem_error *err)
{
    uint64_t length = 0;
    sem_status status = read_bytes(f, 0, PREFIX_BYTES, &length, err);
    if (status != SEM_OK)
        return status;
    if (length > f->size - PREFIX_BYTES || length > HEADER_MAX || length < 2)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: the header claims %llu bytes, expected 2 to %zu (the file has %zu, the format allows %d)",
                        f->path, (unsigned long long)length,
                        f->size - PREFIX_BYTES < HEADER_MAX ? f->size - PREFIX_BYTES : (size_t)HEADER_MAX, f->size,
                        HEADER_MAX);
    status = parse_header(f, (size_t)length, err);
    if (status != SEM_OK)
        return status;
    if (!json_is_object(f->header))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the header is %s, expected an object", f->path,
                        json_type_name(f->header));
    const char *bytes = f->map;
    return read_header(f, bytes + PREFIX_BYTES + length, f->size - PREFIX_BYTES - (size_t)length, err);
}

static sem_status map_file(safetensors *f, sem_error *err)
{
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0)
        return sem_fail(err, errno == ENOENT ? SEM_NOT_FOUND : SEM_INTERNAL, "cannot open %s: %s", f->path,
                        strerror(errno));
    struct stat st;
    sem_status status = SEM_OK;
    if (fstat(f->fd, &st) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot stat %s: %s", f->path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: not a regular file", f->path);
    else if (st.st_size < PREFIX_BYTES)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %lld bytes, expected at least %d", f->path,
                          (long long)st.st_size, PREFIX_BYTES);
    if (status == SEM_OK) {
        f->size = (size_t)st.st_size;
        f->modified = st.st_mtim;
        f->map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, f->fd, 0);
        if (f->map == MAP_FAILED) {
            f->map = NULL;
            status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot map %s: %s", f->path, strerror(errno));
        }
    }
    return status;
}

sem_status safetensors_open(safetensors **out, const char *path, sem_error *err)
{
    safetensors *f = calloc(1, sizeof *f);
    if (f == NULL || (f->path = strdup(path)) == NULL) {
        free(f);
        return sem_fail_memory(err, path);
    }
    f->fd = -1;
    sem_status status = map_file(f, err);
    if (status == SEM_OK)
        status = parse(f, err);
    if (status != SEM_OK) {
        safetensors_close(f);
        return status;
    }
    *out = f;
    return SEM_OK;
}

void safetensors_close(safetensors *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->shard_count; i++)
        safetensors_close(f->shards[i]);
    free(f->shards);
    if (f->map != NULL)
        munmap(f->map, f->size);
    if (f->fd >= 0)
        close(f->fd);
    json_decref(f->header);
    free(f->views);
    free(f->by_name);
    free(f->path);
    free(f);
}

size_t safetensors_count(const safetensors *f)
{
    return f->count;
}

const tensor_view *safetensors_at(const safetensors *f, size_t i)
{
    return i < f->count ? &f->views[i] : NULL;
}

const tensor_view *safetensors_find(const safetensors *f, const char *name)
{
    size_t low = 0, high = f->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const tensor_view *view = &f->views[f->by_name[middle]];
        int c = strcmp(name, view->name);
        if (c == 0)
            return view;
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *safetensors_path(const safetensors *f)
{
    return f->path;
}

/* --- conversion */

static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1F;
    uint32_t fraction = half & 0x3FF;
    uint32_t bits;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 */
        float value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    if (exponent == 0x1F)
        bits = sign | 0x7F800000 | fraction << 13;
    else
        bits = sign | (exponent + 127 - 15) << 23 | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Two bytes an element. in may be the end of out: each word is read before the
 * float that covers it is written. */
static void convert_halves(tensor_dtype dtype, const unsigned char *in, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t word;
        memcpy(&word, in + 2 * i, sizeof word);
        if (dtype == TENSOR_F16) {
            out[i] = half_to_float(word);
        } else {
            uint32_t bits = (uint32_t)word << 16;
            memcpy(&out[i], &bits, sizeof bits);
        }
    }
}

sem_status tensor_read(const tensor_view *view, size_t first, size_t count, float *out, sem_error *err)
{
    const safetensors *f = view->file;
    const size_t place = (size_t)((const char *)view->data - (const char *)f->map);
    if (view->dtype != TENSOR_F32 && view->dtype != TENSOR_F16 && view->dtype != TENSOR_BF16)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s is of a type that is not F32, F16 or BF16", f->path,
                        view->name);
    struct stat now;
    if (fstat(f->fd, &now) != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot stat %s: %s", f->path, strerror(errno));
    if ((size_t)now.st_size != f->size || now.st_mtim.tv_sec != f->modified.tv_sec ||
        now.st_mtim.tv_nsec != f->modified.tv_nsec)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s was changed while it was in use", f->path);
    if (view->dtype == TENSOR_F32)
        return read_bytes(f, place + 4 * first, 4 * count, out, err);
    unsigned char *end = (unsigned char *)out + 2 * count;
    sem_status status = read_bytes(f, place + 2 * first, 2 * count, end, err);
    if (status == SEM_OK)
        convert_halves(view->dtype, end, count, out);
    return status;
}
