/* Softmax on the CPU, from an object file:
 *
 *     blc softmax.bl -o softmax.o
 *     cc call_softmax.c softmax.o -lm -o call_softmax
 *     ./call_softmax
 *
 * A program with threads gives each a range of the rows and scratch memory of its own.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "softmax.h"

enum { ROWS = 512, COLUMNS = 1000 };

/* Rows begin at addresses divisible by 16, as the kernel's signature demands of x and y. */
static _Alignas(64) float in[ROWS * COLUMNS], out[ROWS * COLUMNS];

int main(void)
{
    /* A whole number of times 64 bytes, and not none. */
    void *scratch = aligned_alloc(64, (SOFTMAX_SCRATCH_BYTES / 64 + 1) * 64);
    struct softmax_arguments arguments = {.x = in, .y = out, .row_stride = COLUMNS, .n = COLUMNS};
    int row, column;

    for (column = 0; column < ROWS * COLUMNS; ++column)
        in[column] = (float)(column % 17);

    if (scratch == NULL || blocklang_softmax(&arguments, ROWS, 1, 1, 0, ROWS, scratch) != 0)
        return 1;
    free(scratch);

    for (row = 0; row < ROWS; ++row) {
        double sum = 0;
        for (column = 0; column < COLUMNS; ++column)
            sum += out[row * COLUMNS + column];
        if (fabs(sum - 1) > 1e-4) {
            fprintf(stderr, "row %d has the sum %f\n", row, sum);
            return 1;
        }
    }
    printf("%d rows, each with the sum 1\n", ROWS);
    return 0;
}
