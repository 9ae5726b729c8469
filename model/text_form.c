#include "model/text_form.h"

#include "base/utf8.h"
#include "model/characters.h"
#include "model/marks.h"

#include <utf8proc.h>

#include <stdlib.h>
#include <string.h>

/* Combining class not 0 since Unicode 11: these end a run of marks. */
static const char_range NEW_COMBINING[] = {
    {0x05C8, 0x05C9},   {0x07FD, 0x07FD},   {0x0897, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},   {0x1ABF, 0x1AF0},
    {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC},
    {0x10ECB, 0x10ECF}, {0x10EF0, 0x10EFB}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x113CE, 0x113D0}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x1612F, 0x1612F}, {0x16FF0, 0x16FF1}, {0x1D127, 0x1D128}, {0x1D250, 0x1D252}, {0x1D25B, 0x1D25C},
    {0x1D25F, 0x1D25F}, {0x1D280, 0x1D281}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6E3}, {0x1E6E6, 0x1E6E6},
    {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5},
};

/* Decomposed since Unicode 13: left alone. */
static const char_range NEW_DECOMPOSED[] = {
    {0x105C9, 0x105C9}, {0x105E4, 0x105E4}, {0x11383, 0x11383}, {0x11385, 0x11385},
    {0x1138E, 0x1138E}, {0x11391, 0x11391}, {0x113C5, 0x113C5}, {0x113C7, 0x113C8},
    {0x11938, 0x11938}, {0x16121, 0x16128}, {0x16D68, 0x16D6A},
};

/* Compatible with something since Unicode 11: left alone. */
static const char_range NEW_COMPATIBLE[] = {
    {0x0558, 0x0558},   {0x058B, 0x058C},   {0x209D, 0x209F},   {0x32FF, 0x32FF},   {0xA7F1, 0xA7F4},
    {0xAB69, 0xAB69},   {0x10781, 0x107BF}, {0x1B123, 0x1B126}, {0x1CCD6, 0x1CCF9}, {0x1D6A6, 0x1D6A6},
    {0x1DF95, 0x1DF95}, {0x1DFCD, 0x1DFFF}, {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
};

enum {
    STABLE_END = 0x20000, /* no composite lies above */
    PAIRS = 4096          /* entries of the table; Unicode 10 has 930 composites */
};

/* Hangul is composed and decomposed by rule (Unicode 15.0, section 3.12). */
enum {
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11A7, /* one before the first */
    HANGUL_LV = 0xAC00,
    HANGUL_L_COUNT = 19,
    HANGUL_V_COUNT = 21,
    HANGUL_T_COUNT = 28
};

uint8_t text_combining_class(uint32_t code)
{
    utf8proc_propval_t class = utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
    return class == 0 || CHAR_WITHIN(NEW_COMBINING, code) ? 0 : (uint8_t) class;
}

size_t text_decompose(uint32_t code, bool compatible, uint32_t parts[TEXT_PARTS_MAX])
{
    utf8proc_int32_t found[TEXT_PARTS_MAX];
    int boundary = 0;
    utf8proc_ssize_t count = 0;
    if (code >= 0x80 && !CHAR_WITHIN(NEW_DECOMPOSED, code) && !(compatible && CHAR_WITHIN(NEW_COMPATIBLE, code)))
        count = utf8proc_decompose_char((utf8proc_int32_t)code, found, TEXT_PARTS_MAX,
                                        compatible ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : UTF8PROC_DECOMPOSE,
                                        &boundary);
    if (count < 1 || count > TEXT_PARTS_MAX) { /* no decomposition is that long */
        parts[0] = code;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < count; i++)
        parts[i] = (uint32_t)found[i];
    return (size_t)count;
}

/* --- what composes to what */

static text_pair *pair_entry(text_pair *pairs, uint32_t first, uint32_t second)
{
    uint32_t i = (first * 0x9E3779B1U ^ second * 0x85EBCA6BU) >> 16;
    for (;; i++) {
        text_pair *p = &pairs[i % PAIRS];
        if (p->composite == 0 || (p->first == first && p->second == second))
            return p;
    }
}

/* 0 if they do not. */
static uint32_t compose(const text_form *form, uint32_t first, uint32_t second)
{
    if (second - HANGUL_V < HANGUL_V_COUNT && first - HANGUL_L < HANGUL_L_COUNT)
        return HANGUL_LV + ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    if (second - HANGUL_T - 1 < HANGUL_T_COUNT - 1 &&
        first - HANGUL_LV < HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT &&
        (first - HANGUL_LV) % HANGUL_T_COUNT == 0)
        return first + (second - HANGUL_T);
    return pair_entry(form->pairs, first, second)->composite;
}

/* What count decomposed characters compose to, if it is one character; else 0. */
static uint32_t composed_whole(const uint32_t *parts, size_t count)
{
    utf8proc_int32_t work[TEXT_PARTS_MAX];
    for (size_t i = 0; i < count; i++)
        work[i] = (utf8proc_int32_t)parts[i];
    utf8proc_ssize_t n = utf8proc_normalize_utf32(work, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    return n == 1 ? (uint32_t)work[0] : 0;
}

static bool is_surrogate(uint32_t code)
{
    return code >= 0xD800 && code < 0xE000;
}

static void fill_pairs(text_form *form)
{
    size_t used = 0;
    for (uint32_t code = 0x80; code < STABLE_END && used < PAIRS / 2; code++) {
        uint32_t parts[TEXT_PARTS_MAX];
        if (is_surrogate(code) || (code >= HANGUL_LV && code < 0xD7A4))
            continue;
        size_t count = text_decompose(code, false, parts);
        if (count < 2 || composed_whole(parts, count) != code)
            continue;
        uint32_t first = composed_whole(parts, count - 1);
        if (first == 0)
            continue;
        *pair_entry(form->pairs, first, parts[count - 1]) = (text_pair){first, parts[count - 1], code};
        used++;
    }
}

/* Seconds of pairs, which may join what stands before them. */
static void mark_joining(const text_form *form, unsigned char *joins)
{
    for (size_t i = 0; i < PAIRS; i++) {
        uint32_t second = form->pairs[i].second;
        if (form->pairs[i].composite != 0 && second < STABLE_END)
            joins[second / 8] |= (unsigned char)(1U << second % 8);
    }
    for (uint32_t code = HANGUL_V; code < HANGUL_T + HANGUL_T_COUNT; code++)
        joins[code / 8] |= (unsigned char)(1U << code % 8);
}

static bool stays(const text_form *form, uint32_t code)
{
    uint32_t parts[TEXT_PARTS_MAX];
    if (is_surrogate(code) || text_combining_class(code) != 0)
        return false;
    size_t count = text_decompose(code, form->compatible, parts);
    if (count == 1 && parts[0] == code)
        return true;
    uint32_t canonical[TEXT_PARTS_MAX];
    size_t canonical_count = text_decompose(code, false, canonical);
    if (!form->composed || canonical_count != count || memcmp(parts, canonical, count * sizeof *parts) != 0)
        return false;
    return composed_whole(parts, count) == code;
}

sem_status text_form_create(text_form *out, const char *name, sem_error *err)
{
    text_form form = {.compatible = strlen(name) > 2 && name[2] == 'K', .composed = name[strlen(name) - 1] == 'C'};
    if (strcmp(name, "NFC") != 0 && strcmp(name, "NFD") != 0 && strcmp(name, "NFKC") != 0 && strcmp(name, "NFKD") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is no normalization form; NFC, NFD, NFKC and NFKD are", name);
    unsigned char *joins = calloc(STABLE_END / 8, 1);
    form.stable = calloc(STABLE_END / 8, 1);
    form.pairs = calloc(PAIRS, sizeof *form.pairs);
    if (joins == NULL || form.stable == NULL || form.pairs == NULL) {
        free(joins);
        text_form_free(&form);
        return sem_fail_memory(err, "a normalization form");
    }
    if (form.composed) {
        fill_pairs(&form);
        mark_joining(&form, joins);
    }
    for (uint32_t code = 0; code < STABLE_END; code++)
        if ((joins[code / 8] >> code % 8 & 1) == 0 && stays(&form, code))
            form.stable[code / 8] |= (unsigned char)(1U << code % 8);
    free(joins);
    *out = form;
    return SEM_OK;
}

void text_form_free(text_form *form)
{
    free(form->stable);
    free(form->pairs);
    form->stable = NULL;
    form->pairs = NULL;
}

/* --- applying */

#define NO_CHARACTER UINT32_MAX

/* What waits: a character of class 0 and the marks behind it. */
typedef struct form_walk {
    const text_form *form;
    buffer *out;
    uint32_t starter; /* NO_CHARACTER: the marks begin the text */
    mark_run marks;
} form_walk;

static bool put(form_walk *w, uint32_t code)
{
    char bytes[4];
    return buffer_append(w->out, bytes, utf8_encode(code, bytes));
}

/* Composes the marks with the starter; those that stay remain in order at *sorted. */
static size_t compose_marks(form_walk *w, mark *sorted)
{
    size_t kept = 0;
    for (size_t i = 0; i < w->marks.count; i++) {
        bool blocked = kept > 0 && mark_class(sorted[kept - 1]) >= mark_class(sorted[i]);
        uint32_t both = blocked ? 0 : compose(w->form, w->starter, mark_char(sorted[i]));
        if (both != 0)
            w->starter = both;
        else
            sorted[kept++] = sorted[i];
    }
    return kept;
}

/* Puts what waits; `next` is the character of class 0 behind it, which waits then,
 * maybe joined with it. */
static bool end_run(form_walk *w, uint32_t next)
{
    size_t count = w->marks.count;
    const mark *sorted = NULL;
    if (count > 0) {
        mark *order = mark_run_sort(&w->marks);
        if (w->form->composed && w->starter != NO_CHARACTER)
            count = compose_marks(w, order);
        sorted = order;
    }
    if (w->form->composed && count == 0 && w->starter != NO_CHARACTER && next != NO_CHARACTER) {
        uint32_t both = compose(w->form, w->starter, next);
        if (both != 0) {
            w->starter = both;
            w->marks.count = 0;
            return true;
        }
    }
    bool ok = w->starter == NO_CHARACTER || put(w, w->starter);
    for (size_t i = 0; ok && i < count; i++)
        ok = put(w, mark_char(sorted[i]));
    w->marks.count = 0;
    w->starter = next;
    return ok;
}

static bool add(form_walk *w, uint32_t code)
{
    uint32_t parts[TEXT_PARTS_MAX];
    size_t count = text_decompose(code, w->form->compatible, parts);
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        uint8_t class = text_combining_class(parts[i]);
        ok = class == 0 ? end_run(w, parts[i]) : mark_run_add(&w->marks, parts[i], class);
    }
    return ok;
}

/* Where the run of stable characters from i ends; *last is where its last one begins. */
static size_t stable_end(const text_form *form, const char *text, size_t length, size_t i, size_t *last)
{
    while (i < length) {
        uint32_t code;
        size_t n = utf8_decode(text + i, length - i, &code);
        if (code >= STABLE_END || (form->stable[code / 8] >> code % 8 & 1) == 0)
            break;
        *last = i;
        i += n;
    }
    return i;
}

bool text_form_apply(const text_form *form, const char *text, size_t length, text_scratch *scratch, buffer *out)
{
    form_walk w = {.form = form, .out = out, .starter = NO_CHARACTER};
    w.marks = text_scratch_take_marks(scratch);
    bool ok = buffer_reserve(out, length);
    for (size_t i = 0; ok && i < length;) {
        size_t last = i, end = stable_end(form, text, length, i, &last);
        uint32_t code;
        if (last > i) { /* all but the last, which may be joined by what follows */
            ok = end_run(&w, NO_CHARACTER) && buffer_append(out, text + i, last - i);
            i = last;
        }
        if (ok && end == length && end > i) {
            ok = end_run(&w, NO_CHARACTER) && buffer_append(out, text + i, end - i);
            i = end;
        } else if (ok) {
            i += utf8_decode(text + i, length - i, &code);
            ok = add(&w, code);
        }
    }
    ok = ok && end_run(&w, NO_CHARACTER);
    text_scratch_give_marks(scratch, w.marks);
    return ok;
}
