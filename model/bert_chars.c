#include "model/bert_chars.h"

#include "model/characters.h"
#include "model/text_form.h"

#include <utf8proc.h>

#include <stdlib.h>

/* The libraries that vocabularies are used with take categories from Unicode 8,
 * combining classes and decompositions from Unicode 10 and lower case from
 * Unicode 17. utf8proc has one version for all, so the tables below name the
 * code points at which it differs (any utf8proc from Unicode 15 to 18), found by
 * comparing all 1,112,064 of them. */

/* Mn since Unicode 9: kept when accents are stripped. */
static const char_range NEW_MARKS[] = {
    {0x05C8, 0x05C9},   {0x07FD, 0x07FD},   {0x0897, 0x089F},   {0x08CA, 0x08E1},   {0x09FE, 0x09FE},
    {0x0AFA, 0x0AFF},   {0x0B53, 0x0B55},   {0x0C04, 0x0C04},   {0x0C3C, 0x0C3C},   {0x0D00, 0x0D00},
    {0x0D3B, 0x0D3C},   {0x0D81, 0x0D81},   {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECE},   {0x180F, 0x180F},
    {0x1885, 0x1886},   {0x1ABF, 0x1AF0},   {0x1DF6, 0x1DFB},   {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},
    {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},   {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC},
    {0x10ECB, 0x10ECF}, {0x10EF0, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x11073, 0x11074}, {0x110C2, 0x110C2}, {0x111C9, 0x111C9}, {0x111CF, 0x111CF}, {0x1123E, 0x1123E},
    {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x113BB, 0x113C0}, {0x113CE, 0x113CE}, {0x113D0, 0x113D0},
    {0x113D2, 0x113D2}, {0x113E1, 0x113E2}, {0x11438, 0x1143F}, {0x11442, 0x11444}, {0x11446, 0x11446},
    {0x1145E, 0x1145E}, {0x1182F, 0x11837}, {0x11839, 0x1183A}, {0x1193B, 0x1193C}, {0x1193E, 0x1193E},
    {0x11943, 0x11943}, {0x119D4, 0x119D7}, {0x119DA, 0x119DB}, {0x119E0, 0x119E0}, {0x11A01, 0x11A0A},
    {0x11A33, 0x11A38}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A56}, {0x11A59, 0x11A5B},
    {0x11A8A, 0x11A96}, {0x11A98, 0x11A99}, {0x11B60, 0x11B60}, {0x11B62, 0x11B64}, {0x11B66, 0x11B66},
    {0x11C30, 0x11C36}, {0x11C38, 0x11C3D}, {0x11C3F, 0x11C3F}, {0x11C92, 0x11CA7}, {0x11CAA, 0x11CB0},
    {0x11CB2, 0x11CB3}, {0x11CB5, 0x11CB6}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D},
    {0x11D3F, 0x11D45}, {0x11D47, 0x11D47}, {0x11D90, 0x11D91}, {0x11D95, 0x11D95}, {0x11D97, 0x11D97},
    {0x11DF0, 0x11DF0}, {0x11EF3, 0x11EF4}, {0x11F00, 0x11F01}, {0x11F36, 0x11F3A}, {0x11F40, 0x11F40},
    {0x11F42, 0x11F42}, {0x11F5A, 0x11F5A}, {0x13440, 0x13440}, {0x13447, 0x13455}, {0x1611E, 0x16129},
    {0x1612D, 0x1612F}, {0x16F4F, 0x16F4F}, {0x16FE4, 0x16FE4}, {0x1CF00, 0x1CF2D}, {0x1CF30, 0x1CF46},
    {0x1D127, 0x1D128}, {0x1D25B, 0x1D25C}, {0x1E000, 0x1E006}, {0x1E008, 0x1E018}, {0x1E01B, 0x1E021},
    {0x1E023, 0x1E024}, {0x1E026, 0x1E02A}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6E3}, {0x1E6E6, 0x1E6E6},
    {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5}, {0x1E944, 0x1E94A},
};

/* Punctuation since Unicode 9: not split off. */
static const char_range NEW_PUNCTUATION[] = {
    {0x061D, 0x061D},   {0x09FD, 0x09FD},   {0x0A76, 0x0A76},   {0x0C77, 0x0C77},   {0x0C84, 0x0C84},
    {0x1B4E, 0x1B4F},   {0x1B7D, 0x1B7F},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E5D},   {0x2E60, 0x2E63},
    {0x10D6E, 0x10D6E}, {0x10EAD, 0x10EAD}, {0x10ED0, 0x10ED0}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89},
    {0x113D4, 0x113D5}, {0x113D7, 0x113D8}, {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D},
    {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2},
    {0x11A3F, 0x11A46}, {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2}, {0x11B00, 0x11B09}, {0x11BE1, 0x11BE1},
    {0x11C41, 0x11C45}, {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8}, {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF},
    {0x12FF1, 0x12FF2}, {0x16D6D, 0x16D6F}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E5FF, 0x1E5FF},
    {0x1E95E, 0x1E95F},
};

/* Cc, Cf or Co that cleaning keeps: white space, and Cf since Unicode 9. */
static const char_range KEPT_CONTROLS[] = {
    {0x0009, 0x000A}, {0x000D, 0x000D}, {0x0890, 0x0891}, {0x08E2, 0x08E2}, {0x110CD, 0x110CD}, {0x13430, 0x1343F},
};

/* Capital letters whose small letter lies at a fixed distance, as new as Unicode 17. */
static const struct {
    uint32_t first, last;
    int32_t to_lower;
} NEW_CAPITALS[] = {
    {0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B},
};

static bool is_control(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS: return !CHAR_WITHIN(KEPT_CONTROLS, code);
    default: return false;
    }
}

static bool is_punctuation(uint32_t code)
{
    if (code < 0x80)
        return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
               (code >= '{' && code <= '~');
    if (code == 0x166D || code == 0x111C9) /* a symbol and a mark since then */
        return true;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO && !CHAR_WITHIN(NEW_PUNCTUATION, code);
}

static bool is_mark(uint32_t code)
{
    if (code == 0x1734) /* Mc since Unicode 14 */
        return true;
    return utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_MN && !CHAR_WITHIN(NEW_MARKS, code);
}

/* CJK ideographs as BERT's original tokenizer counts them. */
static bool is_chinese(uint32_t code)
{
    return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
           (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2B81F) ||
           (code >= 0x2B920 && code <= 0x2CEAF) || (code >= 0xF900 && code <= 0xFAFF) ||
           (code >= 0x2F800 && code <= 0x2FA1F);
}

uint32_t bert_lower(uint32_t code)
{
    for (size_t i = 0; i < sizeof NEW_CAPITALS / sizeof NEW_CAPITALS[0]; i++)
        if (code >= NEW_CAPITALS[i].first && code <= NEW_CAPITALS[i].last)
            return (uint32_t)((int32_t)code + NEW_CAPITALS[i].to_lower);
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
}

static void add(bert_expansion *out, uint32_t code, uint8_t combining)
{
    out->code[out->count] = code;
    out->combining[out->count] = combining;
    out->count++;
}

static void add_lowered(const bert_rules *rules, bert_expansion *out, uint32_t code, uint8_t combining)
{
    if (!rules->lowercase) {
        add(out, code, combining);
    } else if (code == 0x130) { /* the one capital whose small letter is two characters */
        add(out, 'i', 0);
        add(out, 0x307, 0);
    } else {
        add(out, bert_lower(code), combining);
    }
}

static void add_decomposed(const bert_rules *rules, bert_expansion *out, uint32_t code)
{
    uint32_t parts[TEXT_PARTS_MAX];
    size_t count = text_decompose(code, false, parts);
    for (size_t i = 0; i < count && i < BERT_EXPANSION_MAX - 2; i++) {
        uint8_t combining = text_combining_class(parts[i]);
        if (!is_mark(parts[i]))
            add_lowered(rules, out, parts[i], combining);
        else if (combining == 0)
            add(out, BERT_REMOVED, 0);
    }
}

void bert_expand(const bert_rules *rules, uint32_t code, bert_expansion *out)
{
    out->count = 0;
    if (rules->clean_text && (code == 0 || code == 0xFFFD || is_control(code)))
        return;
    if (rules->clean_text && char_is_white_space(code))
        code = ' ';
    bool spaced = rules->handle_chinese_chars && is_chinese(code);
    if (spaced)
        add(out, ' ', 0);
    if (rules->strip_accents)
        add_decomposed(rules, out, code);
    else
        add_lowered(rules, out, code, 0);
    if (spaced)
        add(out, ' ', 0);
}

bert_kind bert_split_kind(uint32_t code)
{
    return char_is_white_space(code) ? BERT_SPACE : is_punctuation(code) ? BERT_PUNCT : BERT_WORD;
}

bert_entry bert_classify(const bert_chars *chars, uint32_t code)
{
    bert_expansion e;
    bert_expand(&chars->rules, code, &e);
    if (e.count == 0)
        return BERT_DROP;
    if (e.count == 3 && e.code[0] == ' ' && e.code[2] == ' ' && e.combining[1] == 0 && e.code[1] != BERT_REMOVED &&
        bert_split_kind(e.code[1]) == BERT_WORD)
        return e.code[1] << 3 | BERT_CJK;
    if (e.count > 1 || e.combining[0] != 0)
        return BERT_SEQUENCE;
    if (e.code[0] == BERT_REMOVED)
        return BERT_DROP_MARK;
    return e.code[0] << 3 | (bert_entry)bert_split_kind(e.code[0]);
}

sem_status bert_chars_create(bert_chars *out, const bert_rules *rules, sem_error *err)
{
    bert_chars chars = {.rules = *rules, .bmp = malloc(0x10000 * sizeof *chars.bmp)};
    if (chars.bmp == NULL)
        return sem_fail_memory(err, "the table of characters");
    for (uint32_t code = 0; code < 0x10000; code++)
        chars.bmp[code] = bert_classify(&chars, code);
    *out = chars;
    return SEM_OK;
}

void bert_chars_free(bert_chars *chars)
{
    free(chars->bmp);
    chars->bmp = NULL;
}
