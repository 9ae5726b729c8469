#include "model/word_pattern.h"

#include "base/utf8.h"
#include "model/characters.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PLANE = 0x10000 };

typedef enum split_class { SPLIT_LETTER, SPLIT_NUMBER, SPLIT_SPACE, SPLIT_OTHER } split_class;

/* What the two newer ones have in common, before and behind their numbers. */
#define BEFORE_NUMBERS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define AFTER_NUMBERS  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

bool word_pattern_find(const char *expression, word_pattern_kind *out)
{
    static const struct {
        const char *expression;
        word_pattern_kind kind;
    } known[] = {{"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", WORDS_GPT2},
                 {BEFORE_NUMBERS "\\p{N}{1,3}" AFTER_NUMBERS, WORDS_GPT4},
                 {BEFORE_NUMBERS "\\p{N}" AFTER_NUMBERS, WORDS_QWEN}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(expression, known[i].expression) == 0) {
            *out = known[i].kind;
            return true;
        }
    }
    return false;
}

static split_class classify(uint32_t code)
{
    return char_is_white_space(code) ? SPLIT_SPACE
           : char_is_letter(code)    ? SPLIT_LETTER
           : char_is_number(code)    ? SPLIT_NUMBER
                                     : SPLIT_OTHER;
}

sem_status word_pattern_create(word_pattern *out, word_pattern_kind kind, sem_error *err)
{
    unsigned char *classes = malloc(PLANE);
    if (classes == NULL)
        return sem_fail_memory(err, "the classes of characters");
    for (uint32_t code = 0; code < PLANE; code++)
        classes[code] = (unsigned char)classify(code);
    *out = (word_pattern){kind, classes};
    return SEM_OK;
}

void word_pattern_free(word_pattern *p)
{
    free(p->classes);
    p->classes = NULL;
}

/* The class of the character at i; *end is where it ends. */
static inline split_class class_at(const word_pattern *p, const char *text, size_t length, size_t i, size_t *end)
{
    uint32_t code = (unsigned char)text[i];
    *end = i + 1;
    if (code >= 0x80)
        *end = i + utf8_decode(text + i, length - i, &code);
    return code < PLANE ? (split_class)p->classes[code] : classify(code);
}

/* Where the run of characters of a class that is at i ends. */
static size_t run_end(const word_pattern *p, const char *text, size_t length, size_t i, split_class class)
{
    size_t next;
    while (i < length && class_at(p, text, length, i, &next) == class)
        i = next;
    return i;
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

/* 's 't 're 've 'm 'll 'd: the length at text, or 0. In either case where any_case;
 * then U+017F, the long s, is an s too. */
static size_t contraction(const char *text, size_t length, bool any_case)
{
    char first = length >= 2 ? text[1] : '\0', second = length >= 3 ? text[2] : '\0';
    if (any_case && first == '\xC5' && second == '\xBF')
        return 3;
    if (any_case && first >= 'A' && first <= 'Z')
        first = (char)(first + 'a' - 'A');
    if (any_case && second >= 'A' && second <= 'Z')
        second = (char)(second + 'a' - 'A');
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return 2;
    return (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l') ? 3
                                                                                                                 : 0;
}

/* White space from i: all of it at the end of the text, else without its last
 * character (which begins the next word), but at least one character. Where
 * lines, it goes no further than the last line end in it. */
static size_t space_end(const word_pattern *p, const char *text, size_t length, size_t i, bool lines)
{
    size_t last = i, end = i, next, line = i;
    while (end < length && class_at(p, text, length, end, &next) == SPLIT_SPACE) {
        last = end;
        if (is_line_end(text[end]))
            line = next;
        end = next;
    }
    if (lines && line > i)
        return line;
    return end == length || last == i ? end : last;
}

static size_t gpt2_end(const word_pattern *p, const char *text, size_t length, size_t i)
{
    size_t end, after;
    if (text[i] == '\'') {
        size_t n = contraction(text + i, length - i, false);
        if (n > 0)
            return i + n;
    }
    split_class class = class_at(p, text, length, i, &end);
    if (text[i] == ' ' && end < length) {
        split_class following = class_at(p, text, length, end, &after);
        if (following != SPLIT_SPACE) {
            class = following;
            end = after;
        }
    }
    return class == SPLIT_SPACE ? space_end(p, text, length, i, false) : run_end(p, text, length, end, class);
}

static size_t gpt4_end(const word_pattern *p, const char *text, size_t length, size_t i, size_t digits)
{
    size_t end, after;
    if (text[i] == '\'') {
        size_t n = contraction(text + i, length - i, true);
        if (n > 0)
            return i + n;
    }
    split_class class = class_at(p, text, length, i, &end);
    if (class == SPLIT_LETTER)
        return run_end(p, text, length, end, SPLIT_LETTER);
    if (class == SPLIT_NUMBER) {
        for (size_t n = 1; n < digits && end < length && class_at(p, text, length, end, &after) == SPLIT_NUMBER; n++)
            end = after;
        return end;
    }
    split_class following = end < length ? class_at(p, text, length, end, &after) : SPLIT_SPACE;
    if (following == SPLIT_LETTER && !is_line_end(text[i]))
        return run_end(p, text, length, after, SPLIT_LETTER);
    if (class == SPLIT_OTHER || (text[i] == ' ' && following == SPLIT_OTHER)) {
        end = run_end(p, text, length, end, SPLIT_OTHER);
        while (end < length && is_line_end(text[end]))
            end++;
        return end;
    }
    return space_end(p, text, length, i, true);
}

size_t word_pattern_end(const word_pattern *p, const char *text, size_t length, size_t i)
{
    if (p->kind == WORDS_GPT2)
        return gpt2_end(p, text, length, i);
    return gpt4_end(p, text, length, i, p->kind == WORDS_GPT4 ? 3 : 1);
}
