/* Softmax on a GPU, with the CUDA driver alone:
 *
 *     blc softmax.bl --target sm_90a -o softmax.ptx
 *     cc launch_softmax.c -I"$CUDA_HOME/include" -lcuda -lm -o launch_softmax
 *     ./launch_softmax softmax.ptx
 *
 * The program takes a softmax.cubin as well.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <cuda.h>

#include "softmax.h"

enum { ROWS = 512, COLUMNS = 1000 };

static void check(CUresult status, const char *what)
{
    const char *text = NULL;
    if (status != CUDA_SUCCESS) {
        cuGetErrorString(status, &text);
        fprintf(stderr, "%s: %s\n", what, text != NULL ? text : "unknown error");
        exit(1);
    }
}

int main(int count, char **words)
{
    static float in[ROWS * COLUMNS], out[ROWS * COLUMNS];
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction function;
    CUdeviceptr x, y;
    struct softmax_arguments arguments;
    void *parameters[SOFTMAX_ARGUMENTS];
    int row, column;

    for (column = 0; column < ROWS * COLUMNS; ++column)
        in[column] = (float)(column % 17);

    check(cuInit(0), "cuInit");
    check(cuDeviceGet(&device, 0), "cuDeviceGet");
    check(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    check(cuModuleLoad(&module, count > 1 ? words[1] : "softmax.ptx"), "cuModuleLoad");
    check(cuModuleGetFunction(&function, module, SOFTMAX_SYMBOL), "cuModuleGetFunction");
    check(cuMemAlloc(&x, sizeof in), "cuMemAlloc");
    check(cuMemAlloc(&y, sizeof out), "cuMemAlloc");
    check(cuMemcpyHtoD(x, in, sizeof in), "cuMemcpyHtoD");

    arguments.x = x;
    arguments.y = y;
    arguments.row_stride = COLUMNS;
    arguments.n = COLUMNS;
    softmax_parameters(&arguments, parameters);
    check(cuLaunchKernel(function, ROWS, 1, 1, SOFTMAX_THREADS, 1, 1, SOFTMAX_SHARED_BYTES,
                         NULL, parameters, NULL),
          "cuLaunchKernel");
    check(cuMemcpyDtoH(out, y, sizeof out), "cuMemcpyDtoH");

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
