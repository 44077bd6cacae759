//! Relative positions of DeBERTa-v2 (arXiv 2006.03654): content-to-position and
//! position-to-content terms of the attention scores, distances in logarithmic buckets.

use candle_core::Tensor;

use super::encoder::EncoderLayer;
use super::ops::apply;
use super::pack::indices;
use crate::model::ModelError;

/// How distances become rows of the relative embedding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distances {
    /// Buckets on each side of zero; `None` leaves distances as they are.
    pub(super) buckets: Option<usize>,
    /// The largest distance that buckets tell apart.
    pub(super) max_distance: usize,
}

impl Distances {
    /// Rows on each side of zero: half of the relative embedding.
    pub(super) fn span(self) -> usize {
        self.buckets.unwrap_or(self.max_distance)
    }

    /// The bucket of a distance: itself when near, the rounded-up logarithm when far.
    fn bucket(self, distance: i64) -> i64 {
        let Some(buckets) = self.buckets else {
            return distance;
        };
        let middle = (buckets / 2) as i64;
        let size = if distance.abs() < middle {
            middle - 1
        } else {
            distance.abs()
        };
        if size <= middle {
            return distance;
        }
        // in f32 and in this order, as the weights were trained
        let near = middle as f32;
        let scale = ((self.max_distance as f64 - 1.0) / middle as f64) as f32;
        let far = ((size as f32 / near).ln() / scale.ln() * (near - 1.0)).ceil() + near;
        far as i64 * distance.signum()
    }

    /// For query i and key j, the row of i - j, (tokens, tokens) row by row.
    fn rows(self, tokens: usize) -> Vec<u32> {
        let span = self.span() as i64;
        let row = |distance: i64| (self.bucket(distance) + span).clamp(0, 2 * span - 1) as u32;
        let by_distance: Vec<u32> = (1 - tokens as i64..tokens as i64).map(row).collect();
        // index of distance 0 is tokens - 1
        (0..tokens)
            .flat_map(|i| (0..tokens).map(move |j| i + tokens - 1 - j))
            .map(|index| by_distance[index])
            .collect()
    }
}

/// One layer's relative terms. The embeddings are constants, so their projections are, too.
pub(super) struct RelativePositions {
    distances: Distances,
    /// Keys of positions, (heads, 2 span, head width), for content-to-position.
    keys: Option<Tensor>,
    /// Queries of positions, of the same shape, for position-to-content.
    queries: Option<Tensor>,
}

impl RelativePositions {
    /// Terms over `embeddings` (2 span, hidden) projected by the layer's own query and key
    /// projections (`share_att_key`).
    pub(super) fn shared(
        layer: &EncoderLayer,
        embeddings: &Tensor,
        distances: Distances,
        terms: Terms,
    ) -> Result<Self, ModelError> {
        let keys = || layer.heads(&apply(&layer.key, embeddings)?);
        let queries = || layer.heads(&apply(&layer.query, embeddings)?);
        Ok(Self {
            distances,
            keys: terms.content_to_position.then(keys).transpose()?,
            queries: terms.position_to_content.then(queries).transpose()?,
        })
    }

    /// Terms with projections of their own, each (heads, 2 span, head width).
    pub(super) fn own(distances: Distances, keys: Option<Tensor>, queries: Option<Tensor>) -> Self {
        Self {
            distances,
            keys,
            queries,
        }
    }

    /// Scores are divided by the root of this many head widths: one for each term.
    pub(super) fn scale_factor(&self) -> usize {
        1 + usize::from(self.keys.is_some()) + usize::from(self.queries.is_some())
    }

    /// Adds the relative terms to unscaled scores (heads, tokens, tokens).
    pub(super) fn add_to(
        &self,
        scores: &Tensor,
        query: &Tensor,
        key: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let (heads, tokens, _) = query.dims3()?;
        let by_query = indices(&self.distances.rows(tokens))?.reshape((1, tokens, tokens))?;
        let mut scores = scores.clone();
        if let Some(keys) = &self.keys {
            let index = by_query
                .broadcast_as((heads, tokens, tokens))?
                .contiguous()?;
            let all = query.matmul(&keys.t()?)?;
            scores = (scores + all.gather(&index, 2)?)?;
        }
        if let Some(queries) = &self.queries {
            // row (j, i) holds the distance i - j seen from the key: the transpose
            let by_key = by_query.transpose(1, 2)?;
            let index = by_key.broadcast_as((heads, tokens, tokens))?.contiguous()?;
            let all = key.matmul(&queries.t()?)?;
            scores = (scores + all.gather(&index, 2)?.transpose(1, 2)?)?;
        }
        Ok(scores)
    }
}

/// Which relative terms a model has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) content_to_position: bool,
    pub(super) position_to_content: bool,
}

#[cfg(test)]
mod tests {
    use super::Distances;

    #[test]
    fn near_distances_keep_their_bucket_and_far_ones_share() {
        let distances = Distances {
            buckets: Some(8),
            max_distance: 96,
        };
        let buckets: Vec<i64> = [0, 1, 3, 4, 5, 10, 30, 95, -4, -95]
            .map(|d| distances.bucket(d))
            .into();
        assert_eq!(buckets, [0, 1, 3, 4, 5, 5, 6, 7, -4, -7]);
    }

    #[test]
    fn rows_are_distances_from_the_middle_and_end_at_the_edges() {
        let distances = Distances {
            buckets: None,
            max_distance: 2,
        };
        assert_eq!(distances.rows(3), [2, 1, 0, 3, 2, 1, 3, 3, 2]);
    }
}
