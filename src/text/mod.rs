//! Text to tokens and back, incrementally, so that caller text can never forge a control token.
