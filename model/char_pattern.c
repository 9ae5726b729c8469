#include "model/char_pattern.h"

#include "base/utf8.h"
#include "model/bert_chars.h"

#include <string.h>

static bool in_class(unsigned class, uint32_t code)
{
    switch (class) {
    case CHAR_SPACE: return char_is_white_space(code);
    case CHAR_DIGIT: return char_is_digit(code);
    case CHAR_LETTER: return char_is_letter(code);
    case CHAR_NUMBER: return char_is_number(code);
    case CHAR_PUNCTUATION: return bert_split_kind(code) == BERT_PUNCT;
    case CHAR_NUMERIC: return char_is_number(code) || (code >= 0x11DE0 && code <= 0x11DE9); /* new in Unicode 17 */
    default: return false;
    }
}

static bool has_slowly(const char_pattern *p, uint32_t code)
{
    for (size_t i = 0; i < p->range_count; i++)
        if (code >= p->ranges[i].first && code <= p->ranges[i].last)
            return !p->negated;
    for (unsigned class = 1; class <= p->classes; class *= 2)
        if ((p->classes & class) != 0 && in_class(class, code))
            return !p->negated;
    for (unsigned class = 1; class <= p->outside; class *= 2)
        if ((p->outside & class) != 0 && !in_class(class, code))
            return !p->negated;
    return p->negated;
}

void char_pattern_finish(char_pattern *p)
{
    for (uint32_t code = 0; code < 128; code++)
        p->ascii[code] = has_slowly(p, code);
}

bool char_pattern_has(const char_pattern *p, uint32_t code)
{
    return code < 128 ? p->ascii[code] : has_slowly(p, code);
}

bool char_pattern_find(const char_pattern *p, const char *text, size_t length, size_t i, size_t *from, size_t *to)
{
    size_t count = 0;
    while (i < length) {
        uint32_t code;
        size_t n = utf8_decode(text + i, length - i, &code);
        bool has = char_pattern_has(p, code);
        if (has) {
            *from = count == 0 ? i : *from;
            *to = i + n;
            count++;
        }
        if (count > 0 && (!has || !p->run)) {
            if (count >= p->least)
                return true;
            count = 0;
        }
        i += n;
    }
    return count > 0 && count >= p->least;
}

/* --- parsing */

static bool add_range(char_pattern *p, uint32_t first, uint32_t last)
{
    if (p->range_count == CHAR_PATTERN_RANGES || last < first)
        return false;
    p->ranges[p->range_count++] = (char_range){first, last};
    return true;
}

/* \s and the like; *at stands behind the backslash. A single character that is
 * escaped comes back in *literal. */
static bool parse_escape(char_pattern *p, const char **at, uint32_t *literal)
{
    static const struct {
        const char *text;
        unsigned classes, outside;
    } classes[] = {{"s", CHAR_SPACE, 0},     {"S", 0, CHAR_SPACE},     {"d", CHAR_DIGIT, 0},
                   {"D", 0, CHAR_DIGIT},     {"p{Nd}", CHAR_DIGIT, 0}, {"P{Nd}", 0, CHAR_DIGIT},
                   {"p{L}", CHAR_LETTER, 0}, {"P{L}", 0, CHAR_LETTER}, {"p{N}", CHAR_NUMBER, 0},
                   {"P{N}", 0, CHAR_NUMBER}, {"pL", CHAR_LETTER, 0},   {"pN", CHAR_NUMBER, 0}};
    static const char plain[] = "\\.[]{}()*+?^$|/-";
    *literal = 0;
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        size_t n = strlen(classes[i].text);
        if (strncmp(*at, classes[i].text, n) == 0) {
            *at += n;
            p->classes |= classes[i].classes;
            p->outside |= classes[i].outside;
            return true;
        }
    }
    char c = **at;
    *literal = c == 'n'                                ? '\n'
               : c == 'r'                              ? '\r'
               : c == 't'                              ? '\t'
               : c != '\0' && strchr(plain, c) != NULL ? (unsigned char)c
                                                       : 0;
    *at += *literal != 0;
    return *literal != 0;
}

/* One character, escaped or not, or (with *literal 0) a class. */
static bool parse_item(char_pattern *p, const char **at, uint32_t *literal)
{
    if (**at == '\\') {
        (*at)++;
        return parse_escape(p, at, literal);
    }
    size_t left = strlen(*at);
    if (left == 0)
        return false;
    *at += utf8_decode(*at, left, literal);
    return true;
}

/* [...]; *at stands behind the bracket. */
static bool parse_set(char_pattern *p, const char **at)
{
    if (**at == '^') {
        p->negated = true;
        (*at)++;
    }
    bool any = false;
    while (**at != '\0' && **at != ']') {
        uint32_t first, last;
        if (**at == '[' || (**at == '&' && (*at)[1] == '&') || !parse_item(p, at, &first)) /* sets in sets */
            return false;
        any = true;
        if (first == 0)
            continue;
        last = first;
        if (**at == '-' && (*at)[1] != ']') {
            (*at)++;
            if (!parse_item(p, at, &last) || last == 0)
                return false;
        }
        if (!add_range(p, first, last))
            return false;
    }
    if (**at != ']')
        return false;
    (*at)++;
    return any;
}

bool char_pattern_parse(char_pattern *out, const char *expression)
{
    char_pattern p = {.least = 1};
    const char *at = expression;
    uint32_t literal = 0;
    bool fine;
    if (*at == '[') {
        at++;
        fine = parse_set(&p, &at);
    } else {
        fine = *at != '\0' && strchr(".*+?^$|(){}", *at) == NULL && parse_item(&p, &at, &literal);
        if (fine && literal != 0)
            fine = add_range(&p, literal, literal);
    }
    if (!fine)
        return false;
    if (strcmp(at, "+") == 0) {
        p.run = true;
    } else if (strlen(at) == 4 && at[0] == '{' && at[1] >= '1' && at[1] <= '9' && strcmp(at + 2, ",}") == 0) {
        p.run = true;
        p.least = (size_t)(at[1] - '0');
    } else if (*at != '\0') {
        return false;
    }
    char_pattern_finish(&p);
    *out = p;
    return true;
}
