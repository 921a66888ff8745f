//! The program in front of any image so that it runs on AWS Lambda.

pub mod protocol;
