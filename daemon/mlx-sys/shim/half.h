/* In place of mlx-c's header of this name, which has 16-bit floats on ARM compilers only.
 * Here they are the 16 bits themselves: mlx-c only moves them. */
#ifndef MLX_HALF_H
#define MLX_HALF_H

#include <stdint.h>

#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef uint16_t float16_t;
typedef uint16_t bfloat16_t;

#endif
