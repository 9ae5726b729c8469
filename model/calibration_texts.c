#include "model/calibration_texts.h"

#include "base/random.h"

#include <stdbool.h>
#include <stdlib.h>

/* Fewer different tokens than this are few: real vocabularies, whatever their
 * language, make at least 400 of the texts below. */
enum { FEW_TOKENS = 200, DRAWN_TEXTS = 32, DRAWN_LONGEST = 64 };

const char *const calibration_texts[] = {
    "a",
    "42",
    "?",
    "hello",
    "refund",
    "Thank you!",
    "opening hours",
    "error 0x80070057",
    "red running shoes size 9",
    "How do I reset my password?",
    "My parcel has not arrived yet.",
    "The cat sleeps on the warm windowsill.",
    "Where can I see the invoices of last year?",
    "Two children are playing football in the park.",
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Why was I charged twice for the same order, and when do I get my money back?",
    "boundary layer flow over a flat plate with suction",
    "What are the symptoms of an underactive thyroid?",
    "Paris is the capital of France.",
    "The stock fell 3.5% on Tuesday after the company cut its forecast for 2024.",
    "for (size_t i = 0; i < count; i++) sum += values[i] * weights[i];",
    "SELECT name, price FROM products WHERE price < 20 ORDER BY name;",
    "https://example.org/a/long/path?with=query&and=more#fragment",
    "user@example.com, +44 20 7946 0958, 10115 Berlin",
    "buy 1 get 1 FREE!!! limited offer >>> click here <<<",
    "lol that was sooo funny :-) :-) #fun",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "E = mc^2 and a^2 + b^2 = c^2",
    "Wie kann ich meine Karte sperren lassen?",
    "Der Vertrag verlängert sich um ein Jahr, wenn er nicht drei Monate vorher gekündigt wird.",
    "Où se trouve la gare la plus proche ?",
    "Une femme lit un livre à côté d'une fenêtre ouverte pendant qu'il pleut dehors.",
    "¿Cuánto cuesta el envío a las islas?",
    "El niño corre por la playa con su perro.",
    "Vorrei prenotare un tavolo per quattro persone alle otto.",
    "O trem para Lisboa parte às sete e meia da manhã.",
    "De fiets staat achter het huis.",
    "Jag skulle vilja byta mitt abonnemang.",
    "Gdzie mogę kupić bilet na pociąg?",
    "Как отменить мой заказ?",
    "Женщина готовит ужин на кухне.",
    "Πού είναι η στάση του λεωφορείου;",
    "Siparişim ne zaman gelecek?",
    "أين يمكنني العثور على أقرب صيدلية؟",
    "מתי נפתחת החנות?",
    "मेरा ऑर्डर कब आएगा?",
    "今日の天気はどうですか。",
    "请问怎么修改我的收货地址？",
    "이 제품은 언제 다시 입고되나요?",
    "ฉันต้องการเปลี่ยนรหัสผ่าน",
    "Tôi muốn hủy đơn hàng của mình.",
    "naïve café résumé coöperate",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
    "no no no no no no no no no no no no no no no no no no no no",
    "The treaty was signed in 1648 and ended thirty years of war in central Europe, which had cost the lives of "
    "millions and left whole regions without people.",
    "To replace the battery, switch the device off, remove the two screws on the back, lift the cover and pull the "
    "connector straight up. Put the new battery in with the label facing you.",
    "An experimental study of a wing in a propeller slipstream was made in order to determine the spanwise "
    "distribution of the lift increase due to slipstream at different angles of attack of the wing and at different "
    "free stream to slipstream velocity ratios.",
    "Diabetes is a disease in which the level of glucose in the blood is too high. Insulin is a hormone that helps "
    "the glucose get into the cells to give them energy. Over time, too much glucose in the blood can damage the "
    "eyes, kidneys and nerves.",
    "Preheat the oven to 180 degrees. Mix flour, sugar and butter until the dough is smooth, roll it out and cut it "
    "into circles. Bake for twelve minutes or until the edges turn brown, then leave them to cool on a rack.",
    "Our quarterly results show revenue of 12.4 million, up from 10.9 million a year ago. Costs rose by 8 percent, "
    "mostly for staff and energy. We expect the second half to be stronger, but currency effects remain a risk.",
    "In the beginning the harbour was only a row of huts where fishermen dried their nets. Within two generations "
    "it had a lighthouse, a customs house and a school, and ships from nine countries lay at its piers in summer.",
    "If you are not satisfied, you may return the goods within thirty days. Please keep the original packaging, "
    "enclose the form that came with the delivery and tell us whether you would like a replacement or a refund.",
    "The function returns a pointer to the first element that compares equal, or null if there is none. The array "
    "must be sorted in ascending order; otherwise the result is undefined. Complexity is logarithmic in the count.",
};

const size_t calibration_text_count = sizeof calibration_texts / sizeof *calibration_texts;

static sem_status count_different(const token_batch *batch, size_t vocab, size_t *out, sem_error *err)
{
    bool *seen = calloc(vocab, sizeof *seen);
    if (seen == NULL)
        return sem_fail_memory(err, "the calibration's tokens");
    *out = 0;
    for (size_t i = 0; i < batch->tokens; i++) {
        *out += !seen[batch->ids[i]];
        seen[batch->ids[i]] = true;
    }
    free(seen);
    return SEM_OK;
}

sem_status calibration_add_drawn(token_batch *batch, size_t vocab, size_t longest, sem_error *err)
{
    int32_t ids[DRAWN_LONGEST];
    size_t different = 0;
    random_state r;
    sem_status status = count_different(batch, vocab, &different, err);
    if (status != SEM_OK || different >= FEW_TOKENS)
        return status;
    random_seed(&r, 1);
    for (size_t i = 0; i < DRAWN_TEXTS; i++) {
        size_t length = 1 + random_below(&r, longest < DRAWN_LONGEST ? longest : DRAWN_LONGEST);
        for (size_t t = 0; t < length; t++)
            ids[t] = (int32_t)random_below(&r, vocab);
        if (!token_batch_append(batch, ids, length))
            return sem_fail_memory(err, "the calibration's texts");
    }
    return SEM_OK;
}
