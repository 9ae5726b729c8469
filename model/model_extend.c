#include "model/model_extend.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/files.h"
#include "model/json.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENIZER_FILE_MAX = 256 << 20, CONFIG_FILE_MAX = 1 << 20, VOCABULARY_FILE_MAX = 64 << 20 };

/* --- weights */

/* The new rows of the token table to[rows, cols], from those that are there. */
static void fill_rows(const vocab_extension *e, size_t cols, size_t rows, float *to)
{
    for (size_t i = 0; i < e->count && e->first + i < rows; i++) {
        const size_t begin = e->starts[i], end = e->starts[i + 1];
        float *row = to + (e->first + i) * cols;
        for (size_t c = 0; c < cols; c++) {
            double sum = 0;
            for (size_t k = begin; k < end; k++)
                sum += to[(size_t)e->sources[k] * cols + c];
            row[c] = (float)(sum / (double)(end - begin));
        }
    }
}

/* params (layout `to`) = old (layout `from`), with rows for the new pieces. */
static sem_status grow_params(const param_layout *from, const float *old, const param_layout *to,
                              const vocab_extension *e, float *params, sem_error *err)
{
    memset(params, 0, to->total * sizeof *params);
    for (size_t i = 0; i < to->count; i++) {
        const param *p = &from->items[i], *q = &to->items[i];
        const bool table = p->rows_sparse && q->rows != p->rows;
        if (from->count != to->count || strcmp(p->name, q->name) != 0 || p->cols != q->cols ||
            (!table && p->rows != q->rows))
            return sem_fail(err, SEM_INTERNAL, "%s does not fit the model with the longer vocabulary", p->name);
        memcpy(params + q->offset, old + p->offset, p->rows * p->cols * sizeof *params);
        if (table)
            fill_rows(e, q->cols, q->rows, params + q->offset);
    }
    return SEM_OK;
}

static sem_status save_weights(const model *m, const char *to, const vocab_extension *e, size_t rows, sem_error *err)
{
    const param_layout *from = encoder_layout(model_get_encoder(m));
    model_config config = *model_get_config(m); /* what it points to stays m's */
    param_layout layout;
    config.vocab = rows;
    sem_status status = param_layout_create(&layout, &config, err);
    if (status != SEM_OK)
        return status;
    float *old, *params = checked_alloc_aligned(layout.total, sizeof *params);
    status = encoder_copy_params(model_get_encoder(m), &old, err);
    if (status == SEM_OK && params == NULL)
        status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for %zu parameters", layout.total);
    if (status == SEM_OK)
        status = grow_params(from, old, &layout, e, params, err);
    if (status == SEM_OK)
        status = model_save(model_get_dir(m), to, &layout, params, NULL, err);
    free(old);
    free(params);
    param_layout_free(&layout);
    return status;
}

/* --- files */

static sem_status write_config(const char *to, size_t rows, sem_error *err)
{
    char path[FILES_PATH_MAX];
    json_t *config;
    sem_status status = files_join(path, err, "%s/config.json", to);
    if (status == SEM_OK)
        status = json_load_path(&config, path, CONFIG_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    status = json_object_set_new(config, "vocab_size", json_integer((json_int_t)rows)) == 0
                 ? json_write_path(path, config, err)
                 : sem_fail_memory(err, path);
    json_decref(config);
    return status;
}

/* vocab.txt has a piece a line, by id; where it has not, it goes. */
static sem_status write_lines(const char *to, const json_t *root, const vocab_extension *e, sem_error *err)
{
    char path[FILES_PATH_MAX];
    char *text = NULL;
    size_t size = 0, lines = 0;
    const char *piece;
    json_t *id;
    sem_status status = files_join(path, err, "%s/vocab.txt", to);
    if (status != SEM_OK || access(path, F_OK) != 0)
        return status;
    status = files_read(path, VOCABULARY_FILE_MAX, &text, &size, err);
    if (status != SEM_OK)
        return status;
    buffer whole = {0};
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    bool enough = buffer_append(&whole, text, size);
    if (size > 0 && text[size - 1] != '\n') {
        enough = enough && buffer_append(&whole, "\n", 1);
        lines++;
    }
    free(text);
    /* New pieces stand in the order of their ids behind the old ones. */
    json_object_foreach(json_object_get(json_object_get(root, "model"), "vocab"), piece, id)
    {
        if ((size_t)json_integer_value(id) >= e->first)
            enough = enough && buffer_append(&whole, piece, strlen(piece)) && buffer_append(&whole, "\n", 1);
    }
    if (!enough)
        status = sem_fail_memory(err, path);
    else if (lines != e->first)
        status = unlink(path) == 0 ? SEM_OK : files_fail(err, "remove", path);
    else
        status = files_write(path, whole.data, whole.size, err);
    buffer_free(&whole);
    return status;
}

/* SentencePiece's own files would give the old ids to whoever reads them. */
static sem_status remove_models(const char *to, sem_error *err)
{
    DIR *folder = opendir(to);
    if (folder == NULL)
        return files_fail(err, "open", to);
    sem_status status = SEM_OK;
    for (struct dirent *entry; status == SEM_OK && (entry = readdir(folder)) != NULL;) {
        char path[FILES_PATH_MAX];
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".model") != 0)
            continue;
        status = files_join(path, err, "%s/%s", to, entry->d_name);
        if (status == SEM_OK && unlink(path) != 0)
            status = files_fail(err, "remove", path);
    }
    closedir(folder);
    return status;
}

static sem_status write_vocabulary(const char *to, const json_t *root, const vocab_extension *e, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/tokenizer.json", to);
    const bool scored = json_is_array(json_object_get(json_object_get(root, "model"), "vocab"));
    if (status == SEM_OK)
        status = scored ? remove_models(to, err) : write_lines(to, root, e, err);
    return status == SEM_OK ? json_write_path(path, root, err) : status;
}

sem_status model_save_extended(const model *m, const char *to, const vocab_piece *pieces, size_t count,
                               extend_report *report, sem_error *err)
{
    char path[FILES_PATH_MAX];
    json_t *root = NULL;
    vocab_extension e = {0};
    const size_t before = model_get_config(m)->vocab;
    sem_status status = files_join(path, err, "%s/tokenizer.json", model_get_dir(m));
    if (status == SEM_OK)
        status = json_load_path(&root, path, TOKENIZER_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    status = vocab_extend(root, pieces, count, path, &e, err);
    const size_t rows = e.first + e.count > before ? e.first + e.count : before;
    *report = (extend_report){.added = e.count, .known = e.known, .rows_before = before, .rows = rows};
    if (status == SEM_OK && e.known == count)
        status = sem_fail(err, SEM_FAILED_PRECONDITION,
                          "none of the %zu pieces found is new to %s: it needs no longer vocabulary for these texts",
                          count, path);
    if (status == SEM_OK)
        status = save_weights(m, to, &e, rows, err);
    const bool saved = status == SEM_OK;
    if (status == SEM_OK)
        status = write_config(to, rows, err);
    if (status == SEM_OK)
        status = write_vocabulary(to, root, &e, err);
    if (saved && status != SEM_OK)
        files_remove_folder(to, NULL);
    json_decref(root);
    vocab_extension_free(&e);
    return status;
}
