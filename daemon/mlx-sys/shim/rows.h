/* Products of a few rows with a matrix, faster than a general BLAS makes them; see `rows.c`. */
#pragma once

/* c = alpha * a * op(b) + beta * c, all by rows: `a` is m by k, and `b` is k by n, or n by k when `by_rows_of_b` says that it is
 * to be transposed. `b` has numbers of 32 bits or, where `of_16_bits` is 1, of 16 (IEEE 754 binary16). Returns 0,
 * and does nothing, where a BLAS does better or, with 16 bits, there are too many rows. */
int product_of_rows(int of_16_bits, int by_rows_of_b, int m, int n, int k, float alpha, const float* a, int lda, const void* b,
                    int ldb, float beta, float* c, int ldc);

/* Whether this processor has products with matrices of 16 bits. */
int products_of_16_bits(void);
