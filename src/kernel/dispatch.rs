//! Compiles one portable loop several times, for the vector units found at run time.

/// Defines `$name`, which runs `$body::<FMA>` compiled for AVX-512, for AVX2, or portably.
///
/// `$body` must be `#[inline(always)]` and generic over `const FMA: bool`, which says whether a
/// fused multiply-add is one instruction here. One machine always takes the same way, so results
/// on it are reproducible. A generic function's further parameters follow its name in brackets, first
/// as they are declared, then as they are passed on.
macro_rules! simd_dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $([$($params:tt)*][$($values:tt)*])?
        ($($arg:ident: $ty:ty),* $(,)?) = $body:ident;) => {
        $(#[$doc])*
        $vis fn $name $(<$($params)*>)? ($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn wide $(<$($params)*>)? ($($arg: $ty),*) {
                    $body::<true $(, $($values)*)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn narrow $(<$($params)*>)? ($($arg: $ty),*) {
                    $body::<true $(, $($values)*)?>($($arg),*)
                }
                let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if fma
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: every feature that `wide` is compiled for was detected just above.
                    return unsafe { wide $(::<$($values)*>)? ($($arg),*) };
                }
                if fma {
                    // SAFETY: AVX2 and FMA were detected just above.
                    return unsafe { narrow $(::<$($values)*>)? ($($arg),*) };
                }
            }
            $body::<false $(, $($values)*)?>($($arg),*)
        }
    };
}
