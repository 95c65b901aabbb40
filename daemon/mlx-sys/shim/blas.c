/* The matrix products that MLX asks of a BLAS, handed on to OpenBLAS, whose wheel prefixes its names.
 * Linked into the program, these definitions come before those of the library that MLX brings. */

#define PRODUCT(NAME, SCALAR, DATA)                                                                  \
  void scipy_##NAME(int, int, int, int, int, int, SCALAR, const DATA*, int, const DATA*, int, SCALAR, \
                    DATA*, int);                                                                     \
  __attribute__((visibility("default"))) void NAME(int order, int trans_a, int trans_b, int m, int n, \
                                                   int k, SCALAR alpha, const DATA* a, int lda,      \
                                                   const DATA* b, int ldb, SCALAR beta, DATA* c,     \
                                                   int ldc) {                                        \
    scipy_##NAME(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);             \
  }

PRODUCT(cblas_sgemm, float, float)
PRODUCT(cblas_dgemm, double, double)
/* Complex factors are passed by address. */
PRODUCT(cblas_cgemm, const void*, void)
