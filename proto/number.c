#include "proto/number.h"

const char *number_text(char out[NUMBER_TEXT_MAX], uint64_t value)
{
    char reversed[NUMBER_TEXT_MAX];
    int length = 0, digits = 0;
    do {
        if (digits > 0 && digits % 3 == 0)
            reversed[length++] = ',';
        reversed[length++] = (char)('0' + value % 10);
        value /= 10;
        digits++;
    } while (value > 0);
    for (int i = 0; i < length; i++)
        out[i] = reversed[length - 1 - i];
    out[length] = '\0';
    return out;
}
