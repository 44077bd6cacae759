//! Compiles one portable loop several times, for the vector units found at run time.

/// Defines `$name`, which runs `$body::<FMA>` compiled for AVX-512, for AVX2, or portably.
///
/// `$body` must be `#[inline(always)]` and generic over `const FMA: bool`, which says whether a
/// fused multiply-add is one instruction here. One machine always takes the same way, so results
/// on it are reproducible.
macro_rules! simd_dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident;) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn wide($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn narrow($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if fma
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: every feature that `wide` is compiled for was detected just above.
                    return unsafe { wide($($arg),*) };
                }
                if fma {
                    // SAFETY: AVX2 and FMA were detected just above.
                    return unsafe { narrow($($arg),*) };
                }
            }
            $body::<false>($($arg),*)
        }
    };
}
