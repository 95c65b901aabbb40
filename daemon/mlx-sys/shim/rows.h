/* Products of a few rows with a matrix, faster than a general BLAS makes them; see `rows.c`. */
#pragma once

/* c = alpha * a * op(b) + beta * c, all by rows: `a` is m by k, and `b` is k by n, or n by k when `by_rows_of_b` says that it is
 * to be transposed. Returns 0, and does nothing, where a BLAS does better. */
int product_of_rows(int by_rows_of_b, int m, int n, int k, float alpha, const float* a, int lda, const float* b, int ldb,
                    float beta, float* c, int ldc);
