//! Names and ids of new containers.

use super::error::ApiError;
use super::limits;
use crate::state::model::ContainerId;

/// Characters of an id that people read.
const SHORT_ID: usize = 12;

const ADJECTIVES: &[&str] = &[
    "amber", "awake", "bold", "brave", "bright", "brisk", "calm", "candid", "careful", "cheery", "clear", "clever",
    "cosy", "crisp", "curious", "daring", "deep", "eager", "early", "easy", "fair", "fleet", "fond", "frank", "free",
    "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "hardy", "hazel", "honest", "humble", "jolly",
    "keen", "kind", "light", "lively", "lucid", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble",
    "patient", "plain", "prompt", "proud", "quick", "quiet", "ready", "rosy", "sharp", "silver", "simple", "smooth",
    "snug", "sober", "solid", "spry", "steady", "still", "sturdy", "subtle", "sunny", "swift", "tidy", "upbeat",
    "vivid", "warm", "wise", "witty", "young", "zesty",
];

/// Surnames of scientists and engineers, as Docker's own names have them.
const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "airy",
    "alhazen",
    "ampere",
    "anning",
    "archimedes",
    "avogadro",
    "babbage",
    "bacon",
    "bassi",
    "becquerel",
    "bernoulli",
    "bessel",
    "bohr",
    "boltzmann",
    "boole",
    "borlaug",
    "bose",
    "boyle",
    "brahe",
    "braun",
    "bunsen",
    "cannon",
    "cantor",
    "carnot",
    "carver",
    "cauchy",
    "cavendish",
    "celsius",
    "chandrasekhar",
    "clausius",
    "copernicus",
    "coriolis",
    "coulomb",
    "crick",
    "curie",
    "dalton",
    "darwin",
    "davy",
    "descartes",
    "dijkstra",
    "dirac",
    "doppler",
    "eddington",
    "ehrlich",
    "einstein",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fizeau",
    "fleming",
    "foucault",
    "fourier",
    "franklin",
    "fresnel",
    "galileo",
    "galois",
    "galvani",
    "gauss",
    "germain",
    "gibbs",
    "godel",
    "goodall",
    "haber",
    "halley",
    "hamilton",
    "harvey",
    "heaviside",
    "helmholtz",
    "herschel",
    "hertz",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "humboldt",
    "huygens",
    "hypatia",
    "jacobi",
    "jenner",
    "joule",
    "kelvin",
    "kepler",
    "kirchhoff",
    "knuth",
    "koch",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "landau",
    "laplace",
    "lavoisier",
    "leavitt",
    "legendre",
    "leibniz",
    "linnaeus",
    "liskov",
    "lorentz",
    "lovelace",
    "lyell",
    "mach",
    "malpighi",
    "marconi",
    "maxwell",
    "mcclintock",
    "meitner",
    "mendel",
    "mendeleev",
    "michelson",
    "minkowski",
    "mirzakhani",
    "mobius",
    "morse",
    "napier",
    "nernst",
    "newton",
    "nightingale",
    "nobel",
    "noether",
    "oersted",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "pauling",
    "peano",
    "perey",
    "planck",
    "poincare",
    "poisson",
    "priestley",
    "ptolemy",
    "pythagoras",
    "ramanujan",
    "rayleigh",
    "riemann",
    "roentgen",
    "rubin",
    "rutherford",
    "sagan",
    "schrodinger",
    "shannon",
    "snell",
    "somerville",
    "stokes",
    "tesla",
    "thales",
    "torricelli",
    "turing",
    "volta",
    "wallace",
    "watt",
    "weber",
    "wegener",
    "wiles",
    "wu",
    "yalow",
    "young",
    "zeeman",
    "zuse",
];

/// A new id.
pub(super) fn new_id() -> Result<ContainerId, ApiError> {
    random().map(ContainerId::from_bytes)
}

/// The id of an image of which nothing but its reference is known: always the same for one reference, so that two
/// requests that name it at once agree. (FNV-1a, four times with different beginnings: a name, not a digest.)
pub(super) fn image_id(reference: &str) -> String {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = |seed: u8| {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        reference.bytes().fold(fold(BASIS, seed), fold)
    };
    let words: String = (0..4).map(|seed| format!("{:016x}", hash(seed))).collect();
    format!("sha256:{words}")
}

/// A random name; from the second `draw` on with a digit, which makes it likelier that nobody has it.
pub(super) fn random_name(draw: u32) -> Result<String, ApiError> {
    let [adjective, surname, digit] = random()?;
    let pick = |words: &'static [&'static str], byte: u8| words.get(usize::from(byte) % words.len()).copied();
    let name =
        format!("{}_{}", pick(ADJECTIVES, adjective).unwrap_or("plain"), pick(SURNAMES, surname).unwrap_or("hopper"));
    Ok(if draw == 0 { name } else { format!("{name}{}", digit % 10) })
}

/// The name that is left when every draw was taken: the short id, as in Docker.
pub(super) fn name_of_last_resort(id: &ContainerId) -> String {
    id.to_string().chars().take(SHORT_ID).collect()
}

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::Internal("the system gives no random numbers"))?;
    Ok(bytes)
}

/// A name that a client gave, without the slash.
pub(super) fn checked(name: &str) -> Result<&str, ApiError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let fits = (2..=limits::MAX_NAME).contains(&bare.len())
        && bare.starts_with(|first: char| first.is_ascii_alphanumeric())
        && bare.bytes().all(is_inner);
    match fits {
        true => Ok(bare),
        false => Err(ApiError::BadRequest(format!(
            "Invalid container name ({bare}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["ab", "/ab", "a_b.c-d", "0a", &"a".repeat(255)] {
            assert_eq!(checked(good).unwrap(), good.trim_start_matches('/'));
        }
        for bad in ["", "/", "a", "-a", "a b", "_ab", "a/b", "é1", &"a".repeat(256)] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            checked("a b").unwrap_err().to_string(),
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
        for draw in 0..3 {
            let name = random_name(draw).unwrap();
            let (adjective, surname) = checked(&name).unwrap().split_once('_').unwrap();
            let bare = surname.trim_end_matches(|last: char| last.is_ascii_digit());
            assert!(ADJECTIVES.contains(&adjective) && SURNAMES.contains(&bare), "{name}");
            assert_eq!(surname.len() - bare.len(), usize::from(draw > 0), "{name}");
        }
        assert_eq!(name_of_last_resort(&ContainerId::from_bytes([0xab; 32])), "abababababab");
        assert_eq!(image_id("a"), image_id("a"));
        assert_ne!(image_id("a"), image_id("b"));
        assert_eq!(image_id("a").len(), "sha256:".len() + 64);
        assert_ne!(new_id().unwrap(), new_id().unwrap());
    }
}
