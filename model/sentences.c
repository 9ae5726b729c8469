#include "model/sentences.h"

#include "base/utf8.h"
#include "model/characters.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Ends that want white space behind them: . ! ? ‼ ⁇ ⁈ ⁉ … and those of Armenian, Arabic,
 * Syriac, Devanagari, Burmese, Ethiopic, Khmer and Mongolian. */
static const char_range SPACED[] = {
    {'!', '!'},       {'.', '.'},       {'?', '?'},       {0x0589, 0x0589}, {0x061E, 0x061F}, {0x06D4, 0x06D4},
    {0x0700, 0x0702}, {0x0964, 0x0965}, {0x104A, 0x104B}, {0x1362, 0x1362}, {0x1367, 0x1368}, {0x17D4, 0x17D5},
    {0x1803, 0x1803}, {0x1809, 0x1809}, {0x2026, 0x2026}, {0x203C, 0x203D}, {0x2047, 0x2049},
};

/* Ends that need none: 。！？｡ and the full-width full stop. */
static const char_range UNSPACED[] = {
    {0x3002, 0x3002}, {0xFF01, 0xFF01}, {0xFF0E, 0xFF0E}, {0xFF1F, 0xFF1F}, {0xFF61, 0xFF61},
};

/* What may stand between a mark and the white space: quotes and brackets that close. */
static const char_range CLOSING[] = {
    {'"', '"'},       {'\'', '\''},     {')', ')'},       {']', ']'},       {'}', '}'},       {0xBB, 0xBB},
    {0x2019, 0x2019}, {0x201D, 0x201D}, {0x203A, 0x203A}, {0x3009, 0x3009}, {0x300B, 0x300B}, {0x300D, 0x300D},
    {0x300F, 0x300F}, {0x3011, 0x3011}, {0xFF09, 0xFF09}, {0xFF3D, 0xFF3D}, {0xFF63, 0xFF63},
};

/* Words, in small letters, that a full stop belongs to: in any case, and before a number. */
static const char *const ABBREVIATIONS[] = {
    "al",     "approx", "bzw", "ca", "cf", "dr",   "e.g", "gen", "hon", "i.e", "lt",
    "messrs", "mr",     "mrs", "ms", "mt", "prof", "rev", "st",  "vgl", "vs",  "z.b",
};
static const char *const NUMBERED[] = {
    "art", "eq", "eqs", "fig", "figs", "no", "nos", "nr", "p", "pp", "ref", "refs", "sec", "vol", "vols",
};
enum { ABBREVIATION_MAX = 6 /* bytes of the longest */, LONG_WORD = 4 };

static bool is_small(char c)
{
    return c >= 'a' && c <= 'z';
}

static char lowered(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_latin(char c)
{
    return is_small(lowered(c));
}

static bool is_among(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* Whether the full stop at `stop` belongs to the word before it; `next`: what comes behind. */
static bool is_abbreviated(const char *text, size_t from, size_t stop, char next)
{
    size_t start = stop;
    char word[ABBREVIATION_MAX + 1] = {0};
    while (start > from && stop - start < ABBREVIATION_MAX && (is_latin(text[start - 1]) || text[start - 1] == '.'))
        start--;
    size_t length = stop - start;
    if (length == 0 || (start > from && ((unsigned char)text[start - 1] >= 0x80 || is_latin(text[start - 1]))))
        return false;
    if (length == 1 && !is_small(text[start]) && is_latin(text[start]))
        return true;
    for (size_t i = 0; i < length; i++)
        word[i] = lowered(text[start + i]);
    return is_among(word, ABBREVIATIONS, sizeof ABBREVIATIONS / sizeof ABBREVIATIONS[0]) ||
           (next >= '0' && next <= '9' && is_among(word, NUMBERED, sizeof NUMBERED / sizeof NUMBERED[0]));
}

/* The first character at or behind `at` that is no white space; *breaks gets the line
 * breaks passed, of which two are an empty line. */
static size_t skip_space(const char *text, size_t length, size_t at, unsigned *breaks)
{
    *breaks = 0;
    while (at < length) {
        uint32_t code;
        size_t size = utf8_decode(text + at, length - at, &code);
        if (!char_is_white_space(code))
            return at;
        if (code == '\n' || code == 0x85 || code == 0x2028)
            ++*breaks;
        else if (code == 0x2029)
            *breaks += 2;
        at += size;
    }
    return at;
}

/* Behind all marks and closing characters from `at` on. */
static size_t skip_marks(const char *text, size_t length, size_t at)
{
    while (at < length) {
        uint32_t code;
        size_t size = utf8_decode(text + at, length - at, &code);
        if (!CHAR_WITHIN(SPACED, code) && !CHAR_WITHIN(UNSPACED, code) && !CHAR_WITHIN(CLOSING, code))
            return at;
        at += size;
    }
    return at;
}

/* Whether what is separated by white space before `next` is another sentence. */
static bool begins_anew(const char *text, size_t length, size_t next)
{
    return next == length || !is_small(text[next]);
}

/* Whether the full stop at `at` follows a word too long to be short for another, or none. */
static bool stops_long_word(const char *text, size_t from, size_t at)
{
    size_t letters = 0;
    while (letters < LONG_WORD && at - letters > from && text[at - letters - 1] != ' ' && text[at - letters - 1] != '.')
        letters++;
    return letters == 0 || letters == LONG_WORD;
}

/* Whether the mark at `at` ends a sentence, with white space from `behind` to `next`. */
static bool is_end(const char *text, size_t length, size_t from, size_t at, size_t behind, size_t next)
{
    bool alone = behind == at + 1, anew = begins_anew(text, length, next);
    if (text[at] != '.' || !alone)
        return anew || alone;
    return (anew || stops_long_word(text, from, at)) && !is_abbreviated(text, from, at, text[next]);
}

size_t sentence_end(const char *text, size_t length, size_t from)
{
    unsigned breaks;
    size_t at = skip_space(text, length, from, &breaks);
    while (at < length) {
        uint32_t code;
        size_t size = utf8_decode(text + at, length - at, &code), behind = at + size;
        if (char_is_white_space(code)) {
            size_t next = skip_space(text, length, at, &breaks);
            if (next == length || breaks > 1 || (breaks == 1 && begins_anew(text, length, next)))
                return at;
            at = next;
            continue;
        }
        bool unspaced = CHAR_WITHIN(UNSPACED, code);
        if (!unspaced && !CHAR_WITHIN(SPACED, code)) {
            at = behind;
            continue;
        }
        behind = skip_marks(text, length, behind);
        size_t next = skip_space(text, length, behind, &breaks);
        if (unspaced || next == length || breaks > 1 || (next > behind && is_end(text, length, from, at, behind, next)))
            return behind;
        at = behind;
    }
    return length;
}

size_t sentence_trim(const char *text, size_t from, size_t *to)
{
    unsigned breaks;
    from = skip_space(text, *to, from, &breaks);
    while (*to > from) {
        size_t last = *to - 1;
        uint32_t code;
        while (last > from && ((unsigned char)text[last] & 0xC0) == 0x80)
            last--;
        utf8_decode(text + last, *to - last, &code);
        if (!char_is_white_space(code))
            break;
        *to = last;
    }
    return from;
}

/* Behind the last word that ends in from..end. */
static size_t last_word_end(const char *text, size_t from, size_t end)
{
    while (end > from) {
        size_t start = end - 1;
        uint32_t code;
        while (start > from && ((unsigned char)text[start] & 0xC0) == 0x80)
            start--;
        utf8_decode(text + start, end - start, &code);
        if (char_is_white_space(code))
            return start;
        end = start;
    }
    return from;
}

size_t sentence_cut(const char *text, size_t length, size_t from, size_t limit)
{
    if (length - from <= limit)
        return length;
    size_t end = from + utf8_cut(text + from, length - from, limit);
    if (end == from) {
        uint32_t code;
        return from + utf8_decode(text + from, length - from, &code);
    }
    uint32_t code;
    utf8_decode(text + end, length - end, &code);
    size_t word = char_is_white_space(code) ? end : last_word_end(text, from, end);
    return word > from ? word : end;
}
