#![allow(unused)]
use std::time::Instant;
use mlx_rs::{Array, Stream, transforms, with_stream, ops};
use super::*;
#[test]
fn cost() {
    let stream = Stream::new_with_device(&mlx_rs::Device::cpu());
    with_stream(&stream, || {
    crate::threads::suit(10);
    for (i,o) in [(256,1024),(256,512),(512,256),(256,256),(128,640),(256,1024*4)] {
        let w = mlx_rs::random::normal::<f32>(&[o,i][..], None,None,None).unwrap();
        let view = ops::swap_axes(&w,0,1).unwrap();
        let flat = mlx_rs::random::normal::<f32>(&[i,o][..], None,None,None).unwrap();
        transforms::eval([&w,&view,&flat]).unwrap();
        for rows in [1,2,4] {
            let x = mlx_rs::random::normal::<f32>(&[rows,i][..], None,None,None).unwrap();
            transforms::eval([&x]).unwrap();
            let mut best=[u128::MAX;2];
            for _ in 0..60 { for (k,m) in [&view,&flat].iter().enumerate() {
                let t0=Instant::now();
                let outs: Vec<Array>=(0..20).map(|_| ops::matmul(&x,m).unwrap()).collect();
                transforms::eval(&outs).unwrap();
                best[k]=best[k].min((t0.elapsed()).as_nanos()/20);
            }}
            println!("rows {rows} {i}->{o}: view {} ns, flat {} ns ({} KB)", best[0],best[1], i*o*4/1024);
        }
    }
    let x = mlx_rs::random::normal::<f32>(&[1,256][..], None,None,None).unwrap();
    transforms::eval([&x]).unwrap();
    let bench=|name:&str, f:&dyn Fn()->Array| { let mut best=u128::MAX; for _ in 0..100 { let t0=Instant::now(); let outs:Vec<Array>=(0..20).map(|_|f()).collect(); transforms::eval(&outs).unwrap(); best=best.min(t0.elapsed().as_nanos()/20);} println!("{name}: {best} ns"); };
    bench("square",&||ops::square(&x).unwrap());
    bench("rsqrt",&||ops::rsqrt(&x).unwrap());
    bench("sigmoid",&||ops::sigmoid(&x).unwrap());
    bench("softmax",&||ops::softmax_axis(&x,-1,None).unwrap());
    bench("reshape",&||ops::reshape(&x,&[4,64]).unwrap());
    bench("swap",&||ops::swap_axes(&x,0,1).unwrap());
    bench("split2",&||ops::split_equal(&x,2,1).unwrap().remove(0));
    bench("slice",&||x.try_index((..,1..100)).unwrap());
    let c=mlx_rs::random::normal::<f32>(&[2,256,64][..],None,None,None).unwrap(); transforms::eval([&c]).unwrap();
    let u=mlx_rs::random::normal::<f32>(&[2,1,64][..],None,None,None).unwrap();transforms::eval([&u]).unwrap();
    bench("mul", &||ops::multiply(&x,&x).unwrap());
    let q=mlx_rs::random::normal::<f32>(&[2,2,64][..],None,None,None).unwrap();transforms::eval([&q]).unwrap();
    let kk=c.try_index((..,..150,..)).unwrap(); let kt=ops::swap_axes(&kk,1,2).unwrap(); transforms::eval([&kt,&kk]).unwrap();
    bench("qk", &||ops::matmul(&q,&kt).unwrap());
    let s=ops::matmul(&q,&kt).unwrap(); transforms::eval([&s]).unwrap();
    bench("sv", &||ops::matmul(&s,&kk).unwrap());
    bench("softmax3", &||ops::softmax_axis(&s,-1,None).unwrap());
    let e=mlx_rs::random::normal::<f32>(&[1024,256][..],None,None,None).unwrap();transforms::eval([&e]).unwrap();
    let id=Array::from_slice(&[5u32],&[1]);
    bench("take", &||mlx_rs::ops::indexing::take_axis(&e,&id,0).unwrap());
    let l=mlx_rs::random::normal::<f32>(&[1,1024][..],None,None,None).unwrap();transforms::eval([&l]).unwrap();
    bench("argmax", &||mlx_rs::ops::indexing::argmax_axis(&l,-1,None).unwrap());
    });
}
