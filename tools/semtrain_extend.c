/* extend-vocab: subwords of new languages for a model's vocabulary. */
#include "base/checked.h"
#include "base/utf8.h"
#include "model/model_extend.h"
#include "finetune/data_lines.h"
#include "tools/semtrain.h"
#include "tools/semtrain_child.h"

#include <utf8proc.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_MOST = 1 << 20,  /* bytes of a line of text */
    CUT_AT = 4000,        /* bytes: spm_train passes over lines of more than 4,192 */
    LINES_MOST = 2000000, /* drawn by spm_train, at most */
    VOCABULARY_FILE_MAX = 64 << 20
};

typedef struct extension {
    semtrain *t;
    const char *model_dir, *output;
    char folder[FILES_PATH_MAX]; /* for what lies between the steps; empty: there is none */
    model *m;
    uint64_t lines;
    vocab_piece *pieces;
    size_t count;
} extension;

/* --- the text, as the model's words are cut out of it */

static bool stands_alone(utf8proc_int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return true;
    default: return false;
    }
}

/* Appends the line with space around signs: no piece holds one beside letters. What marks a word's
 * beginning becomes the space that it stands for. Long lines are cut at a space. */
static bool append_words(buffer *out, const char *text, size_t length)
{
    size_t begun = out->size;
    bool enough = true;
    for (size_t i = 0; i < length && enough;) {
        utf8proc_int32_t code;
        const utf8proc_ssize_t width =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(length - i), &code);
        if (width <= 0)
            break; /* valid UTF-8 has no such place */
        const bool space = code == 0x2581 || code <= 0x20;
        if (space && out->size - begun > CUT_AT) {
            enough = buffer_append(out, "\n", 1);
            begun = out->size;
        } else if (space) {
            enough = buffer_append(out, " ", 1);
        } else if (stands_alone(code)) {
            enough = buffer_append(out, " ", 1) && buffer_append(out, text + i, (size_t)width) &&
                     buffer_append(out, " ", 1);
        } else {
            enough = buffer_append(out, text + i, (size_t)width);
        }
        i += (size_t)width;
    }
    return enough && buffer_append(out, "\n", 1);
}

static sem_status write_line(extension *x, FILE *out, const char *path, const data_line *line, buffer *normal,
                             buffer *words, sem_error *err)
{
    normal->size = words->size = 0;
    if (line->length == 0 || line->too_long || !utf8_valid(line->bytes, line->length))
        return SEM_OK;
    sem_status status = tokenizer_normalize(model_get_tokenizer(x->m), line->bytes, line->length, normal, err);
    if (status == SEM_OK && !append_words(words, (const char *)normal->data, normal->size))
        status = sem_fail_memory(err, "a line of text");
    if (status == SEM_OK && fwrite(words->data, 1, words->size, out) != words->size)
        status = files_fail(err, "write", path);
    x->lines += status == SEM_OK;
    return status;
}

static sem_status add_text(extension *x, FILE *out, const char *path, const char *from, sem_error *err)
{
    data_lines *lines;
    buffer normal = {0}, words = {0};
    sem_status status = data_lines_open(&lines, from, LINE_MOST, err);
    for (bool more = true; status == SEM_OK;) {
        data_line line;
        status = data_lines_next(lines, &line, &more, err);
        if (status == SEM_OK && more)
            status = write_line(x, out, path, &line, &normal, &words, err);
        if (!more)
            break;
        if (status == SEM_OK && atomic_load(x->t->cancel))
            status = sem_fail(err, SEM_CANCELLED, "extending the vocabulary was cancelled");
        progress_show(&x->t->bar, "reading", -1, "%" PRIu64 " lines  %s", x->lines, from);
    }
    if (lines != NULL)
        data_lines_close(lines);
    buffer_free(&normal);
    buffer_free(&words);
    return status;
}

static sem_status write_text(extension *x, const char *path, sem_error *err)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return files_fail(err, "create", path);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < x->t->text_count && status == SEM_OK; i++)
        status = add_text(x, out, path, x->t->texts[i], err);
    if (fclose(out) != 0 && status == SEM_OK)
        status = files_fail(err, "write", path);
    if (status == SEM_OK && x->lines == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "the files of --text hold no line of text");
    return status;
}

/* --- pieces */

static sem_status find_pieces(extension *x, const char *text, sem_error *err)
{
    char input[FILES_PATH_MAX + 16], prefix[FILES_PATH_MAX + 32], size[64], drawn[64], log[FILES_PATH_MAX];
    snprintf(input, sizeof input, "--input=%s", text);
    snprintf(prefix, sizeof prefix, "--model_prefix=%s/pieces", x->folder);
    snprintf(size, sizeof size, "--vocab_size=%zu", x->t->pieces);
    snprintf(drawn, sizeof drawn, "--input_sentence_size=%d", LINES_MOST);
    const char *const arguments[] = {"spm_train",
                                     input,
                                     prefix,
                                     size,
                                     drawn,
                                     "--shuffle_input_sentence=true",
                                     "--model_type=unigram",
                                     "--hard_vocab_limit=false", /* a short text has fewer */
                                     "--normalization_rule_name=identity",
                                     "--num_threads=1", /* in another order sums differ */
                                     "--bos_id=-1",
                                     "--eos_id=-1",
                                     NULL};
    sem_status status = files_join(log, err, "%s/spm_train.log", x->folder);
    progress_show(&x->t->bar, "spm_train", -1, "%" PRIu64 " lines", x->lines);
    return status == SEM_OK ? child_run(arguments, "sentencepiece", log, err) : status;
}

/* A line of spm_train's list: piece, tab, score. False: it is not to be added. */
static bool read_piece(char *line, vocab_piece *out)
{
    char *tab = strchr(line, '\t'), *end;
    if (tab == NULL || strncmp(line, "<unk>\t", 6) == 0)
        return false;
    *tab = '\0';
    out->text = line;
    out->score = strtod(tab + 1, &end);
    return end != tab + 1 && line[0] != '\0';
}

static sem_status read_pieces(extension *x, char **text, sem_error *err)
{
    char path[FILES_PATH_MAX];
    size_t size = 0;
    sem_status status = files_join(path, err, "%s/pieces.vocab", x->folder);
    if (status == SEM_OK)
        status = files_read(path, VOCABULARY_FILE_MAX, text, &size, err);
    if (status != SEM_OK)
        return status;
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += (*text)[i] == '\n';
    x->pieces = checked_realloc(NULL, lines, sizeof *x->pieces);
    if (x->pieces == NULL)
        return sem_fail_memory(err, "the new pieces");
    char *at;
    for (char *line = *text; line != NULL && *line != '\0'; line = at) {
        at = strchr(line, '\n');
        if (at != NULL)
            *at++ = '\0';
        x->count += read_piece(line, &x->pieces[x->count]);
    }
    return SEM_OK;
}

/* --- the model */

static sem_status save(extension *x, extend_report *report, sem_error *err)
{
    char temporary[FILES_PATH_MAX];
    progress_show(&x->t->bar, "writing", -1, "%s", x->output);
    sem_status status = semtrain_output_begin(x->output, temporary, err);
    if (status != SEM_OK)
        return status;
    status = model_save_extended(x->m, temporary, x->pieces, x->count, report, err);
    return semtrain_output_end(x->output, temporary, status, err);
}

static void print_report(const extension *x, const extend_report *r)
{
    if (x->t->json)
        fprintf(x->t->out, "{\"lines\":%" PRIu64 ",\"found\":%zu,\"added\":%zu,\"rows_before\":%zu,\"rows\":%zu}\n",
                x->lines, x->count, r->added, r->rows_before, r->rows);
    else
        fprintf(x->t->out, "%" PRIu64 " lines, %zu pieces found, %zu added (%zu -> %zu rows); wrote %s\n", x->lines,
                x->count, r->added, r->rows_before, r->rows, x->output);
}

static sem_status extend(extension *x, sem_error *err)
{
    char text[FILES_PATH_MAX], *list = NULL;
    extend_report report;
    if (access(x->output, F_OK) == 0)
        return sem_fail(err, SEM_ALREADY_EXISTS, "%s is there already; name a new directory", x->output);
    sem_status status = model_open(&x->m, x->model_dir, NULL, NULL, err);
    if (status == SEM_OK)
        status = files_join(x->folder, err, "%s.tmp-pieces", x->output);
    if (status == SEM_OK)
        status = files_remove_folder(x->folder, err);
    if (status == SEM_OK)
        status = files_make_folder(x->folder, err);
    if (status == SEM_OK)
        status = files_join(text, err, "%s/text", x->folder);
    if (status == SEM_OK)
        status = write_text(x, text, err);
    if (status == SEM_OK)
        status = find_pieces(x, text, err);
    if (status == SEM_OK)
        status = read_pieces(x, &list, err);
    if (status == SEM_OK)
        status = save(x, &report, err);
    progress_clear(&x->t->bar);
    if (status == SEM_OK)
        print_report(x, &report);
    free(list);
    return status;
}

sem_status run_extend_vocab(semtrain *t, const char *model_dir, sem_error *err)
{
    extension x = {.t = t, .model_dir = model_dir, .output = t->output};
    if (t->text_count == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "extend-vocab needs --text FILE...: texts of the new languages");
    sem_status status = extend(&x, err);
    if (x.folder[0] != '\0')
        files_remove_folder(x.folder, NULL);
    free(x.pieces);
    model_close(x.m);
    return status;
}
