/* The matrix products that MLX asks of a BLAS, handed on to OpenBLAS, whose wheel prefixes its names; those of a few rows
 * are made here. Linked into the program, these definitions come before those of the library that MLX brings. */

#include "rows.h"

/* CBLAS's numbers for rows first, as it is, and transposed. */
enum { BY_ROWS = 101, AS_IT_IS = 111, TRANSPOSED = 112 };

#define PRODUCT(NAME, SCALAR, DATA)                                                                  \
  void scipy_##NAME(int, int, int, int, int, int, SCALAR, const DATA*, int, const DATA*, int, SCALAR, \
                    DATA*, int);                                                                     \
  __attribute__((visibility("default"))) void NAME(int order, int trans_a, int trans_b, int m, int n, \
                                                   int k, SCALAR alpha, const DATA* a, int lda,      \
                                                   const DATA* b, int ldb, SCALAR beta, DATA* c,     \
                                                   int ldc) {                                        \
    scipy_##NAME(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);             \
  }

void scipy_cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
__attribute__((visibility("default"))) void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                                                        const float* a, int lda, const float* b, int ldb, float beta, float* c,
                                                        int ldc) {
  if (order == BY_ROWS && trans_a == AS_IT_IS && (trans_b == AS_IT_IS || trans_b == TRANSPOSED) &&
      product_of_rows(0, trans_b == TRANSPOSED, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc))
    return;
  scipy_cblas_sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
PRODUCT(cblas_dgemm, double, double)
/* Complex factors are passed by address. */
PRODUCT(cblas_cgemm, const void*, void)
