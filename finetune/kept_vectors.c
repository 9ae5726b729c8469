#include "finetune/kept_vectors.h"

#include "base/checked.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/random.h"
#include "model/model.h"
#include "model/model_print.h"
#include "finetune/bulk_encode.h"
#include "finetune/kept_file.h"

#include <stdlib.h>
#include <string.h>

struct kept_vectors {
    kept_options options;
    char dir[FILES_PATH_MAX];
    model_config config;
    uint64_t model; /* its fingerprint */
    model *open;    /* NULL until a vector is missing */
    kept_file *file;
    uint64_t computed;
};

/* A text of one call that is not kept yet. */
typedef struct missing_text {
    const char *prompt;
    uint64_t key;
    size_t place; /* in the call's texts */
} missing_text;

void kept_vectors_close(kept_vectors *k)
{
    if (k == NULL)
        return;
    kept_file_close(k->file);
    model_close(k->open);
    model_config_free(&k->config);
    free(k);
}

static sem_status open_file(kept_vectors *k, sem_error *err)
{
    char told[512];
    if (k->options.path == NULL)
        return SEM_OK;
    sem_status status = kept_file_open(&k->file, k->options.path, k->model, k->config.dim, told, err);
    if (status == SEM_OK && told[0] != '\0' && k->options.tell != NULL)
        k->options.tell(k->options.context, told);
    return status;
}

sem_status kept_vectors_open(kept_vectors **out, const kept_options *options, sem_error *err)
{
    *out = NULL;
    kept_vectors *k = calloc(1, sizeof *k);
    if (k == NULL)
        return sem_fail_memory(err, "kept vectors");
    k->options = *options;
    sem_status status = files_join(k->dir, err, "%s", options->model);
    if (status == SEM_OK)
        status = model_config_read(&k->config, k->dir, err);
    if (status == SEM_OK)
        status = model_print(k->dir, &k->model, err);
    if (status == SEM_OK)
        status = open_file(k, err);
    if (status == SEM_OK)
        *out = k;
    else
        kept_vectors_close(k);
    return status;
}

size_t kept_vectors_dim(const kept_vectors *k)
{
    return k->config.dim;
}

uint64_t kept_vectors_fingerprint(const kept_vectors *k)
{
    return k->model;
}

kept_counts kept_vectors_counts(const kept_vectors *k)
{
    return (kept_counts){.computed = k->computed, .kept = k->file != NULL ? kept_file_count(k->file) : 0};
}

/* --- what is missing */

/* Equal ones behind each other, those of a prompt together. */
static int compare_missing(const void *a, const void *b)
{
    const missing_text *x = a, *y = b;
    const int prompts = strcmp(x->prompt, y->prompt);
    if (prompts != 0)
        return prompts;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Copies what is kept, and lists the rest. */
static sem_status look_up(kept_vectors *k, const kept_text *texts, size_t count, float *out, missing_text *missing,
                          size_t *missing_count, sem_error *err)
{
    const char *prompts[] = {model_config_document_prompt(&k->config), model_config_query_prompt(&k->config)};
    sem_status status = SEM_OK;
    *missing_count = 0;
    if (strcmp(prompts[0], prompts[1]) == 0)
        prompts[1] = prompts[0];
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        const char *prompt = prompts[texts[i].as_query];
        const uint64_t key =
            random_at(hash_text(prompt, strlen(prompt)), hash_text(texts[i].text.bytes, texts[i].text.length));
        bool found = false;
        if (k->file != NULL)
            status = kept_file_get(k->file, key, out + i * k->config.dim, &found, err);
        if (!found)
            missing[(*missing_count)++] = (missing_text){prompt, key, i};
    }
    qsort(missing, *missing_count, sizeof *missing, compare_missing);
    return status;
}

/* One batch of different texts under one prompt, computed and kept. */
typedef struct new_vectors {
    bulk_text texts[KEPT_BLOCK_MAX];
    uint64_t keys[KEPT_BLOCK_MAX];
    size_t count;
    float *vectors; /* [KEPT_BLOCK_MAX, dim] */
} new_vectors;

static sem_status compute(kept_vectors *k, new_vectors *n, const char *prompt, sem_error *err)
{
    sem_status status = k->open == NULL ? model_open(&k->open, k->dir, NULL, NULL, err) : SEM_OK;
    if (status != SEM_OK)
        return status;
    const bulk_job job = {.model = k->open,
                          .prompt = prompt,
                          .texts = n->texts,
                          .count = n->count,
                          .threads = k->options.threads,
                          .nice = k->options.nice,
                          .cancel = k->options.cancel,
                          .out = n->vectors};
    status = bulk_encode(&job, err);
    if (status != SEM_OK)
        return status;
    k->computed += n->count;
    return k->file != NULL ? kept_file_put(k->file, n->keys, n->vectors, n->count, err) : SEM_OK;
}

/* Takes from missing[0] on, as long as prompt and room allow; *taken of them. */
static sem_status compute_some(kept_vectors *k, const kept_text *texts, const missing_text *missing, size_t count,
                               new_vectors *n, float *out, size_t *taken, sem_error *err)
{
    const size_t dim = k->config.dim;
    size_t end = 0;
    n->count = 0;
    for (; end < count && missing[end].prompt == missing[0].prompt; end++) {
        if (end > 0 && missing[end].key == missing[end - 1].key)
            continue;
        if (n->count == KEPT_BLOCK_MAX)
            break;
        const data_text text = texts[missing[end].place].text;
        n->texts[n->count] = (bulk_text){text.bytes, text.length};
        n->keys[n->count++] = missing[end].key;
    }
    sem_status status = compute(k, n, missing[0].prompt, err);
    for (size_t i = 0, at = 0; i < end && status == SEM_OK; i++) {
        at += i > 0 && missing[i].key != missing[i - 1].key;
        memcpy(out + missing[i].place * dim, n->vectors + at * dim, dim * sizeof *out);
    }
    *taken = end;
    return status;
}

static sem_status compute_all(kept_vectors *k, const kept_text *texts, const missing_text *missing, size_t count,
                              float *out, sem_error *err)
{
    sem_status status = SEM_OK;
    size_t taken;
    new_vectors *n = calloc(1, sizeof *n);
    if (n != NULL)
        n->vectors = checked_alloc_floats(KEPT_BLOCK_MAX, k->config.dim);
    if (n == NULL || n->vectors == NULL)
        status = sem_fail_memory(err, "new vectors");
    for (size_t i = 0; i < count && status == SEM_OK; i += taken)
        status = compute_some(k, texts, missing + i, count - i, n, out, &taken, err);
    free(n != NULL ? n->vectors : NULL);
    free(n);
    return status;
}

sem_status kept_vectors_get(kept_vectors *k, const kept_text *texts, size_t count, float *out, sem_error *err)
{
    size_t missing_count;
    missing_text *missing = checked_realloc(NULL, count + 1, sizeof *missing);
    if (missing == NULL)
        return sem_fail_memory(err, "the texts of a batch");
    sem_status status = look_up(k, texts, count, out, missing, &missing_count, err);
    if (status == SEM_OK && missing_count > 0)
        status = compute_all(k, texts, missing, missing_count, out, err);
    free(missing);
    return status;
}
